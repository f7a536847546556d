# What makes a cluster's own keys and secrets.
{
  age,
  hatrack,
  jq,
  lib,
  nix,
  openssl,
  sops,
  writeShellApplication,
}:
writeShellApplication {
  name = "hatrack-init";
  runtimeInputs = [
    age
    hatrack
    jq
    nix
    openssl
    sops
  ];
  text = builtins.readFile ./init.sh;
  meta = {
    description = "Makes the keys and secrets of a cluster of one's own";
    license = lib.licenses.asl20;
  };
}
