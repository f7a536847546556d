# What a machine can be for; modules/NAME.nix is what that comes to.
[
  "control-plane"
  "gpu-worker"
  "phone-orchestrator"
  "pi-ai-hat"
  "worker"
]
