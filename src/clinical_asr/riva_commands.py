"""The way from a ``.nemo`` to an answering Riva server, as commands: lists of words, rendered for a shell, never run.

Flags are those of NVIDIA's speech NIM pages for these model families. They change between releases: :func:`doubts`
says which to hold against the release at hand, and the first step prints what that release offers.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from clinical_asr.architecture import Architecture
from clinical_asr.errors import ConfigError
from clinical_asr.routes import Route, served_as

REGISTRY = "nvcr.io/nim/nvidia"
NEMO_IMAGE = "nvcr.io/nvidia/nemo:25.11.01"
CONVERTER = "/opt/NeMo/examples/asr/asr_hybrid_transducer_ctc/helpers/convert_nemo_asr_hybrid_to_ctc.py"
BUILD, EXPORT = "/riva_build_deploy", "nim_export"
MODES = ("offline", "streaming")
FLAGS_PAGE = "https://docs.nvidia.com/nim/speech/latest/asr/customization/riva-build-table.html"
CONTAINERS_PAGE = "https://docs.nvidia.com/nim/speech/latest/reference/support-matrix/asr.html"
LIST_MODELS = (
    "import riva.client as r, riva.client.proto.riva_asr_pb2 as p; "
    's = r.ASRService(r.Auth(uri="localhost:50051")); '
    "print(s.stub.GetRivaSpeechRecognitionConfig(p.RivaSpeechRecognitionConfigRequest()))"
)


@dataclass(frozen=True)
class Step:
    """One command of the hand-off."""

    title: str
    command: list[str]
    note: str = ""

    @property
    def line(self) -> str:
        """For a POSIX shell.

        >>> Step("", ["echo", "two words"]).line
        "echo 'two words'"
        """
        return shlex.join(self.command)


@dataclass(frozen=True)
class Plan:
    """What is served, and how."""

    name: str
    """Name of the files and of the pipeline."""
    architecture: Architecture
    route: Route
    mode: str
    language: str
    """Language code such as ``en-US``."""
    container: str
    """NIM image name, without the registry."""
    tag: str
    head: str = ""
    """The head of a hybrid that is kept."""

    @property
    def image(self) -> str:
        """The container that builds and serves."""
        return f"{REGISTRY}/{self.container}:{self.tag}"

    @property
    def served_file(self) -> str:
        """The ``.nemo`` that ``riva-build`` is given."""
        return f"{self.name}-{self.head}.nemo" if self.head else f"{self.name}.nemo"


def plan_of(
    name: str, architecture: Architecture, route: Route, mode: str, language: str, container: str = "",
    tag: str = "latest", head: str = "",
) -> Plan:  # fmt: skip
    """A plan with everything decided. Raises ConfigError for a mode or container that cannot be."""
    if mode not in MODES:
        raise ConfigError(f"{mode!r} is no mode", "--mode", f"one of {', '.join(MODES)}")
    if not (container or route.container):
        what, mend = f"no container of {route.family} is known here", f"name one of {CONTAINERS_PAGE}"
        raise ConfigError(what, "--container", mend)
    kept = head if architecture.decoder == "hybrid" else ""
    return Plan(name, architecture, route, mode, language, container or route.container, tag, kept)


def steps_of(plan: Plan, offline_hypotheses: str = "offline_hyps.jsonl") -> list[Step]:
    """Every command, in order, to be run in the hand-off folder on the host that will serve."""
    return [
        Step("Check that the hand-off arrived whole", ["sha256sum", "--check", "--strict", "SHA256SUMS"]),
        *_conversion(plan),
        Step("See which settings this release of Riva has", _in_container(plan, "riva-build", *_config(plan), "-h"),
             "Hold the next command against it."),
        Step("Build the RMIR", build_command(plan)),
        Step("Make room for the engines", ["mkdir", "-p", EXPORT],
             "The container writes as user 1000: sudo chown 1000:1000 nim_export if it is not yours."),
        Step("Build the engines", deploy_command(plan), "On the kind of GPU that will serve: engines are made for it."),
        Step("Serve", run_command(plan), "NGC_API_KEY is taken from the environment by name; its value stays out of "
             "the command line. Ports open on this machine only."),
        Step("Is it ready?", ["curl", "--fail", "--silent", "--show-error", "http://localhost:9000/v1/health/ready"],
             "The first start takes minutes."),
        Step("Which models does it offer?", ["python", "-c", LIST_MODELS], f"{plan.name} must be among them."),
        Step(
            "Transcribe the benchmark through the server",
            ["clinical-asr", "hypotheses", "--endpoint", "127.0.0.1:50051", "--manifest", "manifest.jsonl",
             "--output", "served_hyps.jsonl"],
            "manifest.jsonl: the benchmark of the cycle, in its folder.",
        ),
        Step(
            "Offline against served",
            ["clinical-asr", "parity", offline_hypotheses, "served_hyps.jsonl", "--model", plan.served_file],
            "A difference lies in the serving pipeline, not in the model; the cause is sought.",
        ),
    ]  # fmt: skip


def _in_container(plan: Plan, program: str, *arguments: str, mounts: tuple[str, ...] = ()) -> list[str]:
    volumes = [word for mount in (f"./:{BUILD}", *mounts) for word in ("-v", mount)]
    limits = ["--gpus", "all", "--ulimit", "nofile=65536:65536"]
    return ["docker", "run", "--rm", *limits, *volumes, "--entrypoint", program, plan.image, *arguments]


def _config(plan: Plan) -> tuple[str, str]:
    return "--config-path=pkg://servicemaker.configs.asr", f"--config-name={plan.mode}"


def build_command(plan: Plan) -> list[str]:
    """``riva-build`` with the architecture said outright, and the conversion from ``.nemo`` inline."""
    block = ", ".join(f"{key}:{value}" for key, value in plan.route.nemo2riva.items())
    settings = {
        "output_path": f"{BUILD}/{plan.name}.rmir",
        "source_path": f"[{{path: {BUILD}/{plan.served_file}, nemo2riva: {{{block}}}}}]",
        "name": plan.name,
        "decoder": plan.route.decoder,
        "language_code": plan.language,
        "ms_per_timestep": f"{plan.architecture.frame_ms:g}",
        "featurizer.use_utterance_norm_params": "False",
        "featurizer.precalc_norm_time_steps": "0",
        "featurizer.precalc_norm_params": "False",
        **plan.route.settings.get(plan.mode, {}),
    }
    return _in_container(plan, "riva-build", *_config(plan), *(f"{key}={value}" for key, value in settings.items()))


def deploy_command(plan: Plan) -> list[str]:
    """``riva-deploy`` and the archive that the NIM reads, in one container so that nothing is lost in between."""
    rmir = shlex.quote(f"{BUILD}/{plan.name}.rmir")
    script = f"riva-deploy -f {rmir} /data/models && cd /data/models && tar -czf /model_tar/custom_model.tar.gz *"
    return _in_container(plan, "/bin/bash", "-c", script, mounts=(f"./{EXPORT}:/model_tar",))


def run_command(plan: Plan) -> list[str]:
    """The NIM with this model instead of its own, bound to loopback."""
    variables = ("NGC_API_KEY", "NIM_TAGS_SELECTOR", "NIM_DISABLE_MODEL_DOWNLOAD=true", "NIM_HTTP_API_PORT=9000",
                 "NIM_GRPC_API_PORT=50051", "NIM_EXPORT_PATH=/opt/nim/export")  # fmt: skip
    return [
        "docker", "run", "--rm", "--name", plan.name, "--runtime=nvidia", "--gpus", "device=0", "--shm-size=8GB",
        *(word for variable in variables for word in ("-e", variable)),
        "-p", "127.0.0.1:9000:9000", "-p", "127.0.0.1:50051:50051", "-v", f"./{EXPORT}:/opt/nim/export", plan.image,
    ]  # fmt: skip


def _conversion(plan: Plan) -> list[Step]:
    """One head of a hybrid; a server takes no model with two."""
    if not plan.head:
        return []
    command = ["docker", "run", "--rm", "--gpus", "all", "-v", "./:/workspace", "-w", "/workspace", NEMO_IMAGE,
               "python", CONVERTER, "-i", f"{plan.name}.nemo", "-o", plan.served_file, "-m", plan.head]  # fmt: skip
    note = "Score the converted file again before it is served: it is another model than the one that was judged."
    return [Step(f"Keep the {plan.head} head", command, note)]


def doubts(plan: Plan) -> list[str]:
    """What was not tried on a server here, and has to be held against the release at hand."""
    kind = served_as(plan.architecture, plan.name, plan.head)
    found = [
        f"The container: {plan.image} is one of {plan.route.family}. Which images exist, and that `{plan.tag}` is the "
        f"release you want, says {CONTAINERS_PAGE}.",
        f"The settings of riva-build for this family: {FLAGS_PAGE}. They differ between releases; releases before the "
        "`--config-path` form take `riva-build speech_recognition` with `--decoder_type` instead.",
        "NIM_TAGS_SELECTOR: leave it unset unless the container asks for one.",
        "Relative paths after `-v` need Docker 23 or later.",
    ]
    if kind == "ctc":
        found.append("`decoder=greedy_ctc`: some releases call the same decoder `greedy` and want "
                     "`greedy_decoder.asr_model_delay=-1` with it.")  # fmt: skip
    else:
        found.append(f"Chunk and padding sizes: none are published for {kind} in {plan.mode} mode that we could check, "
                     "so the server's defaults hold. Each must be a multiple of ms_per_timestep.")  # fmt: skip
    return found
