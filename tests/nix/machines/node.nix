# What the machines of all tests have in common: everything of hatrack but the way in, which the test driver has of its own.
{ self }:
{ config, lib, ... }:
let
  # QEMU's machines have no number of their own, and one that cannot be told from others gets no certificate.
  digits = builtins.hashString "md5" config.networking.hostName;
  part = start: length: lib.substring start length digits;
  uuid = lib.concatStringsSep "-" [
    (part 0 8)
    (part 8 4)
    (part 12 4)
    (part 16 4)
    (part 20 12)
  ];
in
{
  imports = [ self.nixosModules.default ];

  hatrack = {
    base.enable = false;
    cluster.founder = "founder";
    k3s.tokenFile = "/etc/join-token";
    # The driver counts the machines in the order of their names.
    cluster.hosts.founder = {
      address = "192.168.1.1";
      class = "control-plane";
      founder = "founder";
      hardwareId = null;
    };
  };
  environment.etc.join-token.text = "only-for-tests";

  virtualisation = {
    qemu.options = [ "-uuid ${uuid}" ];
    cores = 2;
    memorySize = 2048;
    diskSize = 4096;
  };
}
