"Package metadata, read from settings.ini, where nbdev keeps it."

import re
import shutil
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

here = Path(__file__).parent
config = ConfigParser(delimiters=["="])
config.read(here / "settings.ini", encoding="utf-8")
cfg = config["DEFAULT"]


def lines(name):
    "The non-empty lines of a setting, one requirement or script each."
    return [line.strip() for line in cfg[name].splitlines() if line.strip()]


def extras():
    "Extra -> its requirements; dev has those of all others."
    found = {name.removesuffix("_requirements"): lines(name) for name in cfg if name.endswith("_requirements")}
    return found | {"dev": sorted({line for each in found.values() for line in each})}


class WithBenchmark(build_py):
    "Takes along the tables of trainings, which `dans.load_benchmark` reads in the package where there is no checkout."

    def run(self):
        super().run()
        if not self.editable_mode:
            shutil.copytree(
                here / "results/benchmark", Path(self.build_lib) / "dans/results/benchmark", dirs_exist_ok=True
            )


readme = here / "README.md"
site = f"{cfg['git_url']}/blob/{cfg['branch']}/"


def long_description():
    "The README; what it names in the checkout is found from anywhere."
    text = readme.read_text(encoding="utf-8") if readme.exists() else cfg["description"]
    text = re.sub(r"(!\[[^\]]*\]\()(?!https?:)", rf"\1{site.replace('/blob/', '/raw/')}", text)
    return re.sub(r"\]\((?!https?:|#)", f"]({site}", text)


setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=long_description(),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    license="Apache-2.0",
    url=cfg["git_url"],
    project_urls={"Documentation": cfg["doc_host"] + cfg["doc_baseurl"], "Changes": site + "CHANGELOG.md"},
    keywords=cfg["keywords"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    packages=find_packages(include=["dans", "dans.*"]),
    package_data={"": ["*.csv", "*.mplstyle"]},
    cmdclass={"build_py": WithBenchmark},
    python_requires=">=" + cfg["min_python"],
    install_requires=lines("requirements"),
    extras_require=extras(),
    entry_points={"console_scripts": lines("console_scripts")},
)
