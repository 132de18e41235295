# The command clinical-asr in an image. Every RUN line is also run outside Docker: make dockerfile.
#   docker build --tag clinical-asr .                            CPU build of PyTorch
#   docker build --tag clinical-asr:cuda --build-arg VARIANT=cuda .   CUDA build; run it with --gpus all
# The image holds eSpeak NG (GPL-3.0-or-later): read THIRD_PARTY_LICENCES.md before you pass it on.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS wheel
WORKDIR /source
COPY . .
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim-bookworm
ARG VARIANT=cpu
# Where the CPU build of PyTorch comes from; empty: the index that pip is set up for.
ARG CPU_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
COPY constraints.txt constraints-hashes.txt LICENSE NOTICE THIRD_PARTY_LICENCES.md /licences/
# All but PyTorch is held to its digest; then the variant's PyTorch, pinned by version; then the product.
RUN python -m pip install --no-deps --require-hashes --requirement /licences/constraints-hashes.txt
RUN case "${VARIANT}" in \
      cpu) python -m pip install --constraint /licences/constraints.txt ${CPU_INDEX:+--index-url ${CPU_INDEX}} torch ;; \
      cuda) python -m pip install --constraint /licences/constraints.txt torch ;; \
      *) echo "VARIANT is cpu or cuda, not ${VARIANT}" >&2; exit 2 ;; \
    esac
COPY --from=wheel /wheels /wheels
RUN python -m pip install --no-deps /wheels/*.whl && python -m pip check && clinical-asr doctor

RUN useradd --create-home --uid 10001 clinical && mkdir /work && chown clinical /work
USER clinical
WORKDIR /work
VOLUME /work
STOPSIGNAL SIGINT
ENTRYPOINT ["clinical-asr"]
CMD ["--help"]
