# Eight GPUs, and a disk for volumes beside that of the system.
{
  imports = [
    (import ../../disko/single-disk.nix {
      device = "/dev/disk/by-id/nvme-SAMSUNG_MZQL2960HCJR-00A07_S64FNN0W100201";
    })
    (import ../../disko/data-disks.nix {
      devices = [ "/dev/disk/by-id/nvme-SAMSUNG_MZQL23T8HCLS-00A07_S64HNN0W300417" ];
    })
  ];

  hatrack = {
    host.address = "10.0.0.7";
    agent.expects.gpus = 8;
    gpu.driver = "nvidia-open";
    secrets.file = ../kubernetes.secrets.yaml;
  };

  hardware.facter.reportPath = ./facter.json;
  system.stateVersion = "26.05";
}
