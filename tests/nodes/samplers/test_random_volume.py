from __future__ import annotations

import re

import pytest

from scalenet_gp.nodes.samplers.random_volume import RandomVolume


@pytest.mark.parametrize("replay", ["x", "[]", "null", '"hela"', ""])
def test_what_is_no_record_is_refused_and_named(replay: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(f"replay={replay!r} is not a text of array.attrs")):
        RandomVolume({"hela": 1, "jurkat": 1}, replay=replay)


def test_a_record_names_one_of_the_volumes() -> None:
    for volume, name in (('"macrophage"', "'macrophage'"), ('["hela"]', r"\['hela'\]")):
        with pytest.raises(ValueError, match=f"replay names the volume {name}; there are hela, jurkat"):
            RandomVolume({"hela": 1, "jurkat": 1}, replay=f'{{"volume": {volume}}}')
