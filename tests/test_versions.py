import platform
from importlib import metadata

from dualtower.versions import package_versions


def test_installed_packages_and_python_and_no_others():
    found = package_versions(["numpy", "no-such-package-of-this-name"])
    assert found == {"python": platform.python_version(), "numpy": metadata.version("numpy")}
