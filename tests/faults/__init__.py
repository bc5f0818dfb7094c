"""Many at once, servers away, processes killed: on real Redis servers."""
