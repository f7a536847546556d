# The class `gpu-worker`: a Kubernetes worker with GPUs.
{
  config,
  lib,
  ...
}:
{
  _class = "nixos";

  config = lib.mkIf (config.hatrack.host.class == "gpu-worker") {
    assertions = [
      {
        assertion = config.hatrack.gpu.driver != null;
        message = "hatrack.gpu.driver of ${config.hatrack.host.name} is not set: a gpu-worker needs nvidia-open, nvidia-closed or amdgpu. The wrong one leaves its GPUs unusable, so none is guessed.";
      }
    ];

    hatrack.k3s.enable = true;
    # Firmware of GPUs and of their kernel modules.
    hardware.enableRedistributableFirmware = lib.mkDefault true;
  };
}
