# What the machines of all tests have in common: everything of hatrack but the way in, which the test driver has of its own.
{ self }:
{ pkgs, ... }:
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
  environment.systemPackages = [ pkgs.openssl ];
  environment.etc.join-token.text = "only-for-tests";

  virtualisation = {
    cores = 2;
    memorySize = 2048;
    diskSize = 4096;
  };
}
