# Eight GPUs, and a disk for volumes beside that of the system.
{
  imports = [
    (import ../../disko/single-disk.nix {
      device = "/dev/disk/by-id/ata-SAMSUNG_MZ7L3960HCJR-00A07_S662NN0W300417";
    })
    (import ../../disko/data-disks.nix {
      devices = [ "/dev/disk/by-id/ata-SAMSUNG_MZ7L33T8HBLT-00A07_S6ESNN0W100201" ];
    })
  ];

  hatrack = {
    host.address = "10.0.0.7";
    agent.expects.gpus = 8;
    gpu.driver = "nvidia-open";
    secrets.file = ./secrets.yaml;
  };
  hardware.facter.reportPath = ./facter.json;
  system.stateVersion = "26.05";
}
