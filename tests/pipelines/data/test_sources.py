"""The sources that a run file means: wildcards, datasplits, the challenge's folder, and the split."""

import pytest

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.config import DataConfig, SplitConfig
from scalenet_gp.pipelines.data.sources import choose_source, resolve_sources
from scalenet_gp.pipelines.data.split import validated_units


@pytest.fixture
def tree(tmp_path):
    """Two data sets in the layout of the challenge, with four crops and two."""
    for dataset, crops in (("hela", (1, 2, 10, 11)), ("fly", (3, 4))):
        top = tmp_path / dataset / f"{dataset}.zarr" / "recon-1"
        groups = [top / "em" / "fibsem-uint8"]
        groups += [top / "labels" / "groundtruth" / f"crop{number}" for number in crops]
        for group in groups:
            group.mkdir(parents=True)
            (group / ".zgroup").write_text('{"zarr_format": 2}')
    return tmp_path


def resolved(folder, *sources, **options):
    data = DataConfig.create(sources=list(sources), classes=["mito"], **options)
    return resolve_sources(data, folder)


def test_paths_do_not_depend_on_the_working_directory(tree, monkeypatch):
    monkeypatch.chdir(tree.parent)
    data = DataConfig.create(sources=[{"raw": "a.zarr/em", "labels": "a.zarr/labels/crop1"}], classes=["mito"])
    assert resolve_sources(data, tree.name) == resolve_sources(data, tree)


def test_wildcards_are_sources_in_the_order_of_their_numbers(tree):
    top = "hela/hela.zarr/recon-1"
    sources = resolved(tree, {"raw": f"{top}/em/fib*", "labels": f"{top}/labels/groundtruth/crop*", "weight": 2})
    assert [source.name for source in sources] == ["crop1", "crop2", "crop10", "crop11"]
    assert {source.config.raw for source in sources} == {str(tree / top / "em" / "fibsem-uint8")}
    assert {source.config.weight for source in sources} == {2}
    assert {source.field for source in sources} == {"data.sources.0"}


def test_wildcards_of_raw_stand_for_those_of_labels(tree):
    pattern = {"raw": "*/*.zarr/recon-1/em/fibsem-uint8", "labels": "*/*.zarr/recon-1/labels/groundtruth/crop?"}
    sources = resolved(tree, pattern)
    assert [source.name for source in sources] == ["crop3", "crop4", "crop1", "crop2"]
    for source in sources:
        assert source.config.raw.split("/recon-1")[0] == source.config.labels.split("/recon-1")[0]


def test_names_are_as_short_as_they_are_unique(tree):
    labels = [f"{dataset}/{dataset}.zarr/recon-1/labels" for dataset in ("hela", "fly")]
    sources = resolved(tree, *({"raw": "raw", "labels": path} for path in (*labels, "other", "other")))
    assert [s.name for s in sources] == [
        "hela.zarr/recon-1/labels",
        "fly.zarr/recon-1/labels",
        "other",
        "other-2",
    ]


def test_the_challenges_folder(tree):
    sources = resolved(tree, {"challenge": "."}, split={"share": 0.3, "by": "dataset"})
    assert sorted(source.name for source in sources) == ["crop1", "crop10", "crop11", "crop2", "crop3", "crop4"]
    assert [s.name for s in sources if s.use == "validate"] == ["crop3", "crop4"]
    assert {source.config.alignment for source in sources} == {"resample"}
    chosen = resolved(tree, {"challenge": ".", "crops": [4, 10], "use": "train"})
    assert [(source.name, source.use) for source in chosen] == [("crop4", "train"), ("crop10", "train")]
    with pytest.raises(ConfigError, match=r"data\.sources\.0\.crops: .* has no crop 7; it has 6 others"):
        resolved(tree, {"challenge": ".", "crops": [7]})
    with pytest.raises(FileNotFoundError, match=r"data\.sources\.0\.challenge: there is no folder"):
        resolved(tree, {"challenge": "nowhere"})
    with pytest.raises(ConfigError, match=r"data\.sources\.0\.challenge: .* has no crops; they are searched at"):
        resolved(tree, {"challenge": "hela/hela.zarr"})


def test_a_datasplit(tree):
    rows = [
        '"train","hela/hela.zarr","recon-1/em/fibsem-uint8","hela/hela.zarr","recon-1/labels/groundtruth/crop1/[er,mito]"',
        '"validate","/fly.zarr","recon-1/em/fibsem-uint8","/fly.zarr","recon-1/labels/groundtruth/crop3/mito"',
    ]
    (tree / "datasplit.csv").write_text("\n".join(rows))
    one, other = resolved(tree, {"datasplit": "datasplit.csv", "groups": "classes.csv"})
    assert (one.use, one.config.only, one.config.groups) == ("train", ("er", "mito"), str(tree / "classes.csv"))
    assert one.config.labels == str(tree / "hela/hela.zarr/recon-1/labels/groundtruth/crop1")
    assert (other.use, other.config.raw) == ("validate", "/fly.zarr/recon-1/em/fibsem-uint8")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"raw": "raw", "labels": "hela/none*"}, r"data\.sources\.0\.labels: nothing matches .*none\*"),
        ({"raw": "*/*.zarr/recon-1/em/f*", "labels": "gt"}, r"data\.sources\.0\.raw: .* matches 2 volumes"),
        ({"raw": "s3://a/*", "labels": "gt"}, r"data\.sources\.0\.raw: a URL cannot have wildcards"),
        ({"raw": "raw", "labels": "gt", "region": {"begin": [0], "end": [8]}}, r"data\.sources\.0\.region is of a"),
        (
            {"raw": "*/*.zarr/recon-*/em/*", "labels": "*/*.zarr/recon-1/labels/groundtruth/crop?"},
            r"data\.sources\.0\.raw: the labels .*crop3 go with the volume .*, and there is none",
        ),
    ],
)
def test_sources_that_cannot_be_are_refused(tree, source, message):
    with pytest.raises(ConfigError, match=message):
        resolved(tree, source)


def test_one_source_is_chosen_by_name(tree):
    data = DataConfig.create(sources=[{"challenge": "."}], classes=["mito"])
    assert choose_source(data, tree, "crop10").config.labels.endswith("crop10")
    with pytest.raises(ConfigError, match=r"data\.sources has no 'crop12'; did you mean crop"):
        choose_source(data, tree, "crop12")
    with pytest.raises(ConfigError, match=r"data\.sources are 6 volumes: choose one with --source; there are crop"):
        choose_source(data, tree)


@pytest.mark.parametrize("by", ["dataset", "crop"])
def test_folds_share_all_out_and_stay_the_same(by):
    sizes = {"a": 5, "b": 1, "c": 3, "d": 2, "e": 4, "f": 1, "g": 1}
    units = [name if by == "dataset" else f"{name}{n}" for name, count in sizes.items() for n in range(count)]
    folds = [validated_units(units, SplitConfig(by=by, folds=4, fold=fold, seed=2)) for fold in range(4)]
    assert sorted(unit for fold in folds for unit in fold) == sorted(set(units))
    counts = [sum(unit in fold for unit in units) for fold in folds]
    assert max(counts) - min(counts) <= (1 if by == "crop" else max(sizes.values()))
    assert folds == [validated_units(units[::-1], SplitConfig(by=by, folds=4, fold=n, seed=2)) for n in range(4)]
    assert folds != [validated_units(units, SplitConfig(by=by, folds=4, fold=n, seed=3)) for n in range(4)]


def test_a_share_is_met_as_nearly_as_whole_data_sets_can():
    units = [name for name, count in (("a", 10), ("b", 1), ("c", 2), ("d", 7)) for _ in range(count)]
    for seed in range(8):
        chosen = validated_units(units, SplitConfig(share=0.1, seed=seed))
        assert 0 < len(chosen) < 4
    with pytest.raises(ConfigError, match=r"data\.split by dataset of 3 sources has 1 of them to tell apart"):
        validated_units(["a"] * 3, SplitConfig(share=0.5))
