import debian
from turn_plans import check_turn_plans, fill


def test_a_turn_reads_no_whole_table_and_waits_for_no_compiler() -> None:
    """Debian's PostgreSQL compiles plans, which the embedded one does not."""
    with debian.postgresql() as url:
        fill(url)
        check_turn_plans(url)
