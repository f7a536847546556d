# What all machines have in common.
{ config, ... }:
{
  hatrack = {
    # The one machine that founds the cluster; all others join it.
    cluster.founder = "control-1";

    # Who logs in as root. Without a key nothing builds.
    base.sshKeys = [ ];

    # `nix run .#init` makes this file for each host, which reads it and no other.
    secrets.file = ./${config.networking.hostName}/secrets.yaml;

    # And this one: the limits of hats, and who the people of the cluster are.
    society.policy = ../k8s/hats/policy.yaml;
  };
}
