# Every module by its name; `default` is all of them, and what they do is chosen by hatrack.host.class.
inputs:
let
  modules = {
    adb = ./adb.nix;
    agent = ./agent.nix;
    argocd = ./argocd.nix;
    base = ./base.nix;
    cilium = ./cilium.nix;
    cluster = ./cluster.nix;
    control-plane = ./control-plane.nix;
    coral = ./coral.nix;
    disks = ./disks.nix;
    enrollment = ./enrollment.nix;
    gpu-worker = ./gpu-worker.nix;
    hailo = ./hailo.nix;
    installation = ./installation.nix;
    k3s = ./k3s.nix;
    longhorn = ./longhorn.nix;
    nvidia = ./nvidia.nix;
    operator = ./operator.nix;
    phone-orchestrator = ./phone-orchestrator.nix;
    pi-ai-hat = ./pi-ai-hat.nix;
    report = ./report.nix;
    secrets = ./secrets.nix;
    society = ./society.nix;
    usb-budget = ./usb-budget.nix;
    worker = ./worker.nix;
    zfs = ./zfs.nix;
  };
in
modules
// {
  # Not part of the default: it turns a machine into an SD card image.
  pi-image = ./pi-image.nix;

  default = {
    imports = [
      inputs.disko.nixosModules.disko
      inputs.sops-nix.nixosModules.sops
    ]
    ++ builtins.attrValues modules;
  };
}
