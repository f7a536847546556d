# Hosts and clusters from their facts.
inputs:
let
  inherit (inputs) self nixpkgs;
  inherit (nixpkgs) lib;
in
rec {
  # One machine. `class` is one of hatrack.host.class, `modules` say what only this machine has.
  mkHost =
    {
      name,
      class,
      system,
      modules ? [ ],
    }:
    lib.nixosSystem {
      modules = [
        self.nixosModules.default
        {
          networking.hostName = name;
          nixpkgs.hostPlatform = system;
          nixpkgs.overlays = [ self.overlays.default ];
          hatrack.host.class = class;
        }
      ]
      ++ lib.optional (class == "pi-ai-hat") self.nixosModules.pi-image
      ++ modules;
    };

  # All machines of a cluster. Each of them knows the facts of the others, so that what contradicts is a build error.
  mkCluster =
    {
      hosts,
      modules ? [ ],
    }:
    let
      configurations = lib.mapAttrs (
        name: host:
        mkHost (
          host
          // {
            inherit name;
            modules = modules ++ host.modules or [ ] ++ [ { hatrack.cluster.hosts = facts; } ];
          }
        )
      ) hosts;
      facts = lib.mapAttrs (
        _: host: host.config.hatrack.host // { inherit (host.config.hatrack.cluster) founder network; }
      ) configurations;
    in
    configurations;

  # Disk layouts, each a function of device ids.
  disks = {
    data-disks = import ../disko/data-disks.nix;
    single-disk = import ../disko/single-disk.nix;
    zfs-mirror = import ../disko/zfs-mirror.nix;
  };

  # The ClusterNode of each machine, as people and GitOps own it: `spec` without the status that its agent writes.
  clusterNodes = lib.mapAttrs (_: host: import ./cluster-node.nix { inherit lib; } host.config);

  # The same as a folder of manifests, for people and for Argo CD.
  nodeManifests =
    pkgs: configurations:
    pkgs.linkFarm "hatrack-nodes" (
      lib.mapAttrsToList (name: text: {
        name = "${name}.yaml";
        path = pkgs.writeText "${name}.yaml" text;
      }) (clusterNodes configurations)
    );
}
