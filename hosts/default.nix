# The example cluster: one host of each kind. Each folder holds what only that machine has; the reports of their hardware were made
# in virtual machines that were given their disks (docs/nix-options.md).
inputs: {
  modules = [ ./cluster.nix ];

  hosts = {
    control-1 = {
      class = "control-plane";
      system = "x86_64-linux";
      modules = [ ./control-1 ];
    };

    gpu-1 = {
      class = "gpu-worker";
      system = "x86_64-linux";
      modules = [ ./gpu-1 ];
    };

    phones-1 = {
      class = "phone-orchestrator";
      system = "x86_64-linux";
      modules = [ ./phones-1 ];
    };

    pi-1 = {
      class = "pi-ai-hat";
      system = "aarch64-linux";
      modules = [
        inputs.nixos-hardware.nixosModules.raspberry-pi-5
        ./pi-1
      ];
    };
  };
}
