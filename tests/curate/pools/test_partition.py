from curate.pools import PlannedPart, Source, plan_parts
from curate.pools.partition import FOLDER_FILES


def tar(name: str) -> Source:
    return Source(0, f"{name}.tar", 1, 1)


def parts_of(counts: dict[str, int]) -> list[tuple[list[str], int]]:
    numbers = {tar(name): count for name, count in counts.items()}
    return [
        ([source.path[0] for source in part.sources], part.images)
        for part in plan_parts(numbers, numbers.get)
    ]


def test_small_tars_are_grouped_whole_and_large_ones_stand_alone():
    counts = {"a": 400, "b": 5000, "c": 500, "d": 300, "e": 1000, "f": 7}
    assert parts_of(counts) == [(["b"], 5000), (["a", "c", "d"], 1200), (["e"], 1000), (["f"], 7)]


def test_leaving_out_what_is_done_does_not_change_the_rest():
    counts = {"a": 400, "b": 5000, "c": 500, "d": 300, "e": 1000, "f": 7}
    whole = parts_of(counts)
    for done in range(len(whole)):
        gone = {name for names, _ in whole[:done] for name in names}
        assert parts_of({name: count for name, count in counts.items() if name not in gone}) == whole[done:]


def test_files_go_by_ten_thousand():
    files = [Source(0, f"{number:06d}.jpg", 1, 1) for number in range(2 * FOLDER_FILES + 1)]
    parts = list(plan_parts(files, lambda source: 0))
    assert [part.images for part in parts] == [FOLDER_FILES, FOLDER_FILES, 1]
    assert [source for part in parts for source in part.sources] == files


def test_an_empty_tar_is_in_a_part_too():
    assert list(plan_parts([tar("a")], lambda source: 0)) == [PlannedPart((tar("a"),), 0)]
