"Systems for tests: one by its numbers, and a strategy that draws any."

from hypothesis import strategies as st

from dans.families import Architecture
from dans.frontends import ImageConfig
from dans.space import SearchSpace, System


def system(resolution, depths, width, color="rgb", rounding="even"):
    return System(ImageConfig(resolution, color), Architecture(depths, width, rounding))


depths = st.sampled_from(SearchSpace.preset("paper").depths)


systems = st.builds(
    system,
    st.integers(8, 240),
    depths,
    st.sampled_from([0.1, 0.2, 0.3, 0.35, 0.5, 0.8, 1.0]),
    st.sampled_from(["rgb", "mono"]),
    st.sampled_from(["even", "eight", "expansion"]),
)
