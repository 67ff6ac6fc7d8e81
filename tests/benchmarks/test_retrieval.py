from benchmarks import retrieval


def test_a_small_run_measures_every_kind() -> None:
    kinds, tasks = retrieval.measure(
        retrieval.synthetic(600, 1), retrieval.synthetic(70, 2), rounds=1
    )
    assert [run["index"] for run in kinds] == ["flat", "ivf", "hnsw", "compressed"]
    assert kinds[0]["recall_minimum"] == kinds[0]["times_as_fast_as_flat"] == 1
    assert [run["query"] for run in tasks] == ["20 seen", "5,000 nearest seen", "1% category"]
