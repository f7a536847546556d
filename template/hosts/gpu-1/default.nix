{ lib, ... }:
{
  hatrack = {
    host.address = "10.0.0.7";
    agent.expects.gpus = 1;
    # nvidia-open for RTX 20 and newer, nvidia-closed for older cards, or amdgpu.
    gpu.driver = "nvidia-open";
  };
  # `nix run .#install -- gpu-1 root@ADDRESS --report` makes it: which drivers the machine starts with.
  hardware.facter.reportPath = lib.mkIf (builtins.pathExists ./facter.json) ./facter.json;
  system.stateVersion = "26.05";
}
