#!/usr/bin/env bash
# audiocraft 1.3.0 pins versions it does not need: see audiocraft.txt, whose pins these are.
set -euo pipefail
pip install --no-deps audiocraft==1.3.0 xformers==0.0.35 torchaudio==2.11.0 demucs==4.1.0 openunmix==1.3.0 
