"""Metadata and dependencies of scalenet_gp; the settings of the tools are in pyproject.toml."""

import runpy
from pathlib import Path

from setuptools import find_packages, setup

IMPORT = [
    "h5py>=3.10",
    "imageio>=2.33",
    "mrcfile>=1.5",
    "nibabel>=5.3",
    "tifffile>=2024.8",
]

TABLES = ["pyarrow>=15"]

TEST = [
    *IMPORT,
    *TABLES,
    "build",
    "hypothesis>=6.100",
    "ipykernel",
    "jsonschema>=4",
    "lsd-lite>=1.0",
    "mypy>=1.13",
    "nbclient>=0.10",
    "nbformat>=5.10",
    "networkx>=3",
    "neuroglancer>=2.40",
    "ome-zarr-models",
    "onnx>=1.17",
    "onnxruntime>=1.20",
    "onnxscript>=0.3",
    "pillow>=10",
    "psycopg2-binary>=2.9",
    "pytest>=8.2",
    "pytest-timeout>=2.3",
    "pytest-xdist[psutil]>=3.6",
    "ruff>=0.8",
    "setuptools>=77",
    "types-PyYAML",
    "waterz>=0.10",
    "wheel",
]

DOCS = [
    "furo>=2024.8",
    "myst-parser>=4",
    "sphinx>=8",
]

DEV = [
    "nbstripout>=0.8",
    "pre-commit>=4",
    "twine>=6.1",
]

HERE = Path(__file__).parent

setup(
    name="scalenet_gp",
    version=runpy.run_path(str(HERE / "scalenet_gp" / "_version.py"))["__version__"],
    description="ScaleNets for gunpowder: multi-scale segmentation networks that know which voxels they need",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The scalenet_gp developers",
    license="BSD-3-Clause",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Processing",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    # scalenet_gp/nodes and scalenet_gp/pipelines are links to the folders beside scalenet_gp. find_packages follows
    # them, so these folders are installed as subpackages and never as top-level `nodes` and `pipelines`.
    packages=find_packages(include=["scalenet_gp", "scalenet_gp.*"]),
    package_data={
        "scalenet_gp": ["py.typed"],
        "scalenet_gp.pipelines": ["configs/*.yaml", "configs/experiments/*.yaml"],
    },
    install_requires=[
        "connected-components-3d>=4",
        "daisy>=2",
        "edt>=3",
        "fastremap>=1.15",
        "filelock>=4.2",
        "funlib.geometry>=0.3",
        "gunpowder>=1.4.4",
        "matplotlib>=3.8",
        "mwatershed>=0.5.3",
        "numba>=0.60",
        "numcodecs>=0.13",
        "numpy>=1.26",
        "pydantic>=2.7",
        "pyyaml>=6",
        "rich>=13",
        "safetensors>=0.4.3",
        "scikit-image>=0.22",
        "scipy>=1.11",
        "tensorboard>=2.16",
        "tensorstore>=0.1.70",
        "torch>=2.4",
        "typer>=0.12",
        "zarr>=2.18,<4",
    ],
    extras_require={
        "test": TEST,
        "docs": DOCS,
        "dev": DEV,
        "import": IMPORT,
        "tables": TABLES,
        "view": ["neuroglancer>=2.40"],
        "postgresql": ["psycopg2-binary>=2.9"],
        "notebook": ["jupyterlab>=4"],
        # On no package index, so this points at the repository. PyPI refuses uploads that hold such a reference: take
        # this line out of a release meant for PyPI.
        "funlib": ["funlib.learn.torch @ git+https://github.com/funkelab/funlib.learn.torch"],
    },
    entry_points={"console_scripts": ["scalenet-gp = scalenet_gp.pipelines.cli:main"]},
)
