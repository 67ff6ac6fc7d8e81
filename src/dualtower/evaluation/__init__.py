"""Full-ranking metrics, per category, significance, results files, the HTML report."""
