#!/bin/bash
# One sitting of the recipe on a GPU machine that runs commands of limited length. Run it again until it says
# "finished": it starts what is not running yet, waits, and leaves what there is in $OUT, in pieces under 15 MiB.
#   OUT=/tmp/out bash models/recipe/run_gpu.sh [seconds to wait] [--set key=value ...]
set -u
wait_seconds=${1:-560}; shift || true
began=$SECONDS
root=$(cd "$(dirname "$0")/../.." && pwd)
work=/tmp/mini; mkdir -p "$work"
export PYTHONPATH=/tmp/site:$root/src PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false
if [ ! -e /tmp/site/.complete ]; then
  python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target /tmp/site "$root"/.whl/*.whl \
    && touch /tmp/site/.complete || exit 1
fi
[ -e "$work/recipe" ] || cp -r "$root/models/recipe" "$work/"; cd "$work/recipe" || exit 1  # the text it started with
export PYTHONPATH=$work/site_src:$PYTHONPATH; mkdir -p $work/site_src && cp -r "$root/src/clinical_asr" $work/site_src/
nvidia-smi --query-gpu=name,memory.total --format=csv,noheader; df -h /tmp | tail -1; nproc; free -g | sed -n 2p

alive() { [ -e "$work/$1.pid" ] && kill -0 "$(cat "$work/$1.pid")" 2>/dev/null; }
start() { # name, command...
  local name=$1; shift
  setsid nohup "$@" >>"$work/$name.out" 2>&1 </dev/null & echo $! >"$work/$name.pid"
}
cat "$root"/.resume/light.pt.* >"$work/resume.pt" 2>/dev/null || rm -f "$work/resume.pt"
nemo=$work/run/mini-fastconformer-tdt.nemo
# the corpus is about 50 GB of int16: in memory where the machine lets us mount it, else on its disk
mkdir -p "$work/corpus"; mountpoint -q "$work/corpus" || mount -t tmpfs -o size=60g tmpfs "$work/corpus" || echo "corpus on disk"
[ -e "$work/corpus/complete" ] || alive synthesise \
  || OMP_NUM_THREADS=1 start synthesise nice -n 5 python3 synthesise.py --out "$work/corpus" \
       --workers "${WORKERS:-$(($(nproc) - 1))}" "$@"
[ -e "$nemo" ] || alive train \
  || start train python3 train.py --corpus "$work/corpus" --out "$work/run" --resume "$work/resume.pt" "$@"

while [ ! -e "$work/evaluation.json" ] && [ $((SECONDS - began)) -lt "$wait_seconds" ]; do
  if [ -e "$nemo" ] && ! alive train && [ ! -e "$work/evaluate.pid" ]; then
    for device in cuda cpu; do  # the processor, should the GPU's decoder fail
      echo "python3 evaluate.py $* --device $device --model $nemo --out $work/evaluation.json"
    done | paste -sd '|' | sed 's/|/ || /' >"$work/evaluate.sh"
    start evaluate bash "$work/evaluate.sh"
  elif [ -e "$work/evaluate.pid" ] && ! alive evaluate && [ ! -e "$work/evaluation.json" ]; then
    echo "evaluation stopped"; tail -5 "$work/evaluate.out"; break
  elif [ ! -e "$nemo" ] && ! alive train; then
    echo "training stopped"; tail -25 "$work/train.out"; break
  fi
  sleep 2
done

tail -1 "$work/synthesise.out"; tail -3 "$work/train.out"; tail -40 "$work/run/log.txt"; nvidia-smi --query-gpu=utilization.gpu,memory.used --format=csv,noheader
cat "$work/run/log.txt" "$work/synthesise.out" >"$OUT/log.txt"
tail -c 20000 "$work/train.out" >"$OUT/train.out"
if [ -e "$work/evaluation.json" ]; then
  cat "$work/evaluation.json"; cp "$work/evaluation.json" "$OUT/"
  split -b 15M -d "$nemo" "$OUT/model.nemo."; sha256sum "$nemo" | cut -c-64 >"$OUT/model.nemo.sha256"
  echo finished
elif [ -e "$nemo" ]; then
  split -b 15M -d "$nemo" "$OUT/model.nemo."
elif [ -e "$work/run/light.pt" ]; then
  cp "$work/run/light.pt" "$work/light.copy" && split -b 15M -d "$work/light.copy" "$OUT/light.pt."
fi
