"""A drawn batch: its panels against the arrays that went in."""

import json
from fractions import Fraction

import gunpowder as gp
import numpy as np
import pytest
from funlib.geometry import Coordinate, Roi

from scalenet_gp.geometry.world import World
from scalenet_gp.pictures.panels import class_colors
from scalenet_gp.pipelines.plots.batch_picture import draw_batch

COARSE, FINE, TARGET, MASK = (
    gp.ArrayKey(name) for name in ("DRAWN_COARSE", "DRAWN_FINE", "DRAWN_TARGET", "DRAWN_MASK")
)
WORLD = World(Fraction(1, 5))  # 50 and 4.6 nm are 250 and 23 units
CLASSES = ("one", "two")


def array(data, begin, voxel_size):
    shape = Coordinate(data.shape[-len(voxel_size) :]) * Coordinate(voxel_size)
    return gp.Array(data, gp.ArraySpec(roi=Roi(begin, shape), voxel_size=Coordinate(voxel_size)))


def anisotropic():
    """A sample whose sections are 50 nm thick: raw data at 18.4 and 4.6 nm, a target of 3 sections at 4.6 nm."""
    rng = np.random.default_rng(0)
    batch = gp.Batch()
    batch[COARSE] = array(rng.random((1, 7, 20, 24), np.float32), (-500, -736, -736), (250, 92, 92))
    batch[FINE] = array(rng.random((1, 5, 30, 32), np.float32), (-250, -184, -184), (250, 23, 23))
    batch[TARGET] = array(rng.integers(0, 2, (2, 3, 12, 16), np.uint8), (0, 0, 0), (250, 23, 23))
    batch[MASK] = array(rng.integers(0, 2, (2, 3, 12, 16), np.uint8), (0, 0, 0), (250, 23, 23))
    return batch


def stacked(*batches):
    together = gp.Batch()
    for key, first in batches[0].items():
        together[key] = gp.Array(np.stack([batch[key].data for batch in batches]), first.spec.copy())
    return together


def panels(figure, sample=0):
    return [panel for panel in figure.subfigs[sample].axes if panel.images]


def picture(panel):
    return np.asarray(panel.images[0].get_array())


def draw(batch, **options):
    return draw_batch(batch, [COARSE, FINE], {TARGET: MASK}, CLASSES, world=WORLD, **options)


def test_every_panel_shows_the_section_in_the_middle_of_the_target():
    batch = anisotropic()
    coarse, fine, target = panels(draw(batch))
    # the target's second section begins at 250, the raw arrays' at -500 and -250
    np.testing.assert_array_equal(picture(coarse), np.repeat(batch[COARSE].data[0, 3][..., None], 3, axis=-1))
    np.testing.assert_array_equal(picture(fine), np.repeat(batch[FINE].data[0, 2][..., None], 3, axis=-1))
    expected = picture(fine)[8:20, 8:24].copy()
    for color, true in zip(class_colors(2), batch[TARGET].data[:, 1] > 0, strict=True):
        expected[true] = 0.4 * expected[true] + 0.6 * color
    expected[~batch[MASK].data[:, 1].any(axis=0)] *= 0.4
    np.testing.assert_allclose(picture(target), expected, atol=1e-6)


def test_places_are_in_nm():
    coarse, fine, target = panels(draw(anisotropic()))
    assert [panel.get_title() for panel in (coarse, fine, target)] == [
        "raw, 50 × 18.4 × 18.4 nm",
        "raw, 50 × 4.6 × 4.6 nm",
        "classes, 50 × 4.6 × 4.6 nm",
    ]
    np.testing.assert_allclose(coarse.images[0].get_extent(), [-147.2, 294.4, 220.8, -147.2])
    np.testing.assert_allclose(target.images[0].get_extent(), [0, 73.6, 55.2, 0])
    (inner,), (aim,) = coarse.patches, fine.patches
    np.testing.assert_allclose(inner.get_bbox().extents, [-36.8, -36.8, 110.4, 101.2])
    np.testing.assert_allclose(aim.get_bbox().extents, [0, 0, 73.6, 55.2])
    assert inner.get_linestyle() != aim.get_linestyle()
    for panel, width, label in ((coarse, 441.6, "50 nm"), (target, 73.6, "10 nm")):
        (bar,) = panel.lines
        begin, end = bar.get_xdata()
        assert label in [text.get_text() for text in panel.texts]
        assert end - begin == pytest.approx(float(label.split()[0]))
        assert end - begin <= width / 5
        assert panel.get_aspect() == 1


def test_the_legend_names_what_the_panels_show():
    def labels(figure):
        return [text.get_text() for text in figure.legends[0].get_texts()]

    batch = anisotropic()
    assert labels(draw(batch)) == ["raw, 50 × 4.6 × 4.6 nm", "target", *CLASSES, "not annotated"]
    assert labels(draw_batch(batch, [FINE], {TARGET: None}, CLASSES, world=WORLD)) == ["target", *CLASSES]


def test_stacked_samples_are_drawn_one_by_one():
    batches = [anisotropic(), anisotropic()]
    batches[1][COARSE].data[:] = 1 - batches[1][COARSE].data
    batches[1][TARGET].data[:] = 1 - batches[1][TARGET].data
    together = draw(stacked(*batches), captions=["the first", "the second"])
    assert [block.get_suptitle() for block in together.subfigs] == ["the first", "the second"]
    for sample, batch in enumerate(batches):
        for one, other in zip(panels(draw(batch)), panels(together, sample), strict=True):
            np.testing.assert_array_equal(picture(one), picture(other))


def test_records_make_the_captions_unless_given():
    batch, noise = anisotropic(), json.dumps({"sigma": 0.03, "seed": 1})
    assert draw(batch).subfigs[0].get_suptitle() == ""
    batch[FINE].attrs = {"noise": noise}
    assert draw(batch).subfigs[0].get_suptitle() == "noise 0.03"
    assert draw(batch, captions=["mine"]).subfigs[0].get_suptitle() == "mine"
    together = stacked(anisotropic(), anisotropic())
    together[FINE].attrs = {"noise": [None, noise]}
    assert [block.get_suptitle() for block in draw(together).subfigs] == ["", "noise 0.03"]


def test_before_is_drawn_above():
    before, after = anisotropic(), anisotropic()
    after[FINE].data[:] = 1 - after[FINE].data
    rows = panels(draw(after, before=before))
    assert [panel.get_ylabel() for panel in rows[::3]] == ["before", "augmented"]
    for row, batch in ((rows[:3], before), (rows[3:], after)):
        for drawn, alone in zip(row, panels(draw(batch)), strict=True):
            np.testing.assert_array_equal(picture(drawn), picture(alone))
    assert not np.array_equal(picture(rows[1]), picture(rows[4]))


def test_integers_are_fractions_of_their_type():
    batch = anisotropic()
    batch[FINE].data = np.round(batch[FINE].data * 255).astype(np.uint8)
    panel = panels(draw_batch(batch, [FINE], {}, (), world=WORLD, intensities=(0.2, 0.6)))[0]
    expected = np.clip((batch[FINE].data[0, 2] / 255 - 0.2) / 0.4, 0, 1)
    np.testing.assert_allclose(picture(panel)[..., 0], expected, atol=1e-6)


def test_a_target_lies_over_the_raw_data_of_the_nearest_voxel_size():
    batch = gp.Batch()
    rng = np.random.default_rng(0)
    batch[COARSE] = array(rng.random((1, 6, 6), np.float32), (0, 0), (8, 8))
    batch[FINE] = array(rng.random((1, 4, 4), np.float32), (16, 16), (2, 2))
    # at 3 there is no raw data; the one at 2 covers 16 to 24
    batch[TARGET] = array(np.zeros((2, 4, 4), np.uint8), (15, 15), (3, 3))
    fine, target = panels(draw_batch(batch, [FINE], {TARGET: None}, CLASSES))
    expected = np.zeros((4, 4, 3), np.float32)
    middles = [(16.5 + 3 * index - 16) / 2 for index in range(4)]
    for row, y in enumerate(middles):
        for column, x in enumerate(middles):
            if y < 4 and x < 4:
                expected[row, column] = picture(fine)[int(y), int(x)]
    np.testing.assert_array_equal(picture(target), expected)
    assert len(fine.patches) == 0
    *_, over_both = panels(draw_batch(batch, [COARSE, FINE], {TARGET: None}, CLASSES))
    np.testing.assert_array_equal(picture(over_both), expected)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda b: b.__setitem__(FINE, array(b[FINE].data[0], (-250, -184, -184), (250, 23, 23))),
            r"shape \(5, 30, 32\)",
        ),
        (
            lambda b: b.__setitem__(TARGET, array(b[TARGET].data[:1], (0, 0, 0), (250, 23, 23))),
            "has 1 channels for the",
        ),
        (lambda b: b.__setitem__(COARSE, array(b[COARSE].data, (500, -736, -736), (250, 92, 92))), "does not reach"),
    ],
    ids=["no channels", "channels", "elsewhere"],
)
def test_arrays_that_cannot_be_drawn(damage, message):
    batch = anisotropic()
    damage(batch)
    with pytest.raises(ValueError, match=message):
        draw(batch)


def test_arguments_that_do_not_fit():
    batch = anisotropic()
    with pytest.raises(ValueError, match="no raw arrays"):
        draw_batch(batch, [], {TARGET: MASK}, CLASSES)
    with pytest.raises(ValueError, match="DRAWN_FINE, DRAWN_COARSE have to be named from coarse to fine"):
        draw_batch(batch, [FINE, COARSE], {}, ())
    with pytest.raises(KeyError, match="the batch has no DRAWN_OTHER; it has DRAWN_COARSE"):
        draw_batch(batch, [gp.ArrayKey("DRAWN_OTHER")], {}, ())
    with pytest.raises(ValueError, match="the batch has 1 samples, before has 2"):
        draw(batch, before=stacked(batch, batch))
    with pytest.raises(ValueError, match="the batch has 1 samples, there are 2 captions"):
        draw(batch, captions=["a", "b"])
