"""The tests: they mirror `service/`, and most of them talk to a whole service (`tests.world`)."""
