# A box of 20 phones on one cable.
{
  imports = [
    (import ../../disko/single-disk.nix { device = "/dev/disk/by-id/ata-CT500MX500SSD1_2204E6056E1B"; })
  ];

  hatrack = {
    host.address = "10.0.0.20";
    agent.expects.phones = 20;
    secrets.file = ./secrets.yaml;
  };

  hardware.facter.reportPath = ./facter.json;
  system.stateVersion = "26.05";
}
