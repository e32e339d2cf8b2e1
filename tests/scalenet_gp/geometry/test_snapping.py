"""ROIs on a lattice, against funlib's."""

from funlib.geometry import Coordinate, Roi
from hypothesis import given
from hypothesis import strategies as st

from scalenet_gp.geometry import snap_to_lattice


@given(
    st.lists(st.tuples(st.integers(-40, 40), st.integers(0, 40), st.integers(1, 12)), min_size=1, max_size=3),
    st.booleans(),
    st.sampled_from(["grow", "shrink"]),
)
def test_it_is_what_funlib_makes(axes, on_lattice, mode):
    begin, shape, size = map(Coordinate, zip(*axes, strict=True))
    roi = Roi(begin * size, shape * size) if on_lattice else Roi(begin, shape)
    snapped = snap_to_lattice(roi, size, mode)
    assert snapped == roi.snap_to_grid(size, mode=mode)
    assert (snapped is roi) >= on_lattice
