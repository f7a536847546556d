# Hosts and clusters from their facts.
inputs:
let
  inherit (inputs) self nixpkgs;
  inherit (nixpkgs) lib;

  systems = [
    "aarch64-linux"
    "x86_64-linux"
  ];

  # What is wrong about an entry of `hosts` is said of the entry, and not of a function that a person has never seen.
  checked =
    name: host:
    let
      unknown = lib.attrNames (
        removeAttrs host [
          "class"
          "modules"
          "system"
        ]
      );
      wrong = what: throw "hosts.${name} in flake.nix ${what}";
    in
    if !host ? class then
      wrong "has no class"
    else if !lib.elem (host.system or null) systems then
      wrong "has no system of ${lib.concatStringsSep " and " systems}"
    else if unknown != [ ] then
      wrong "has ${lib.concatStringsSep ", " unknown}, and takes class, system and modules"
    else
      host;

  # A module of a host, which is blamed for what is wrong in it. What git does not know is not in the flake.
  located =
    name: module:
    if !lib.isPath module then
      lib.setDefaultModuleLocation "hosts.${name} in flake.nix" module
    else if builtins.pathExists module then
      module
    else
      throw "hosts.${name} in flake.nix names ${toString module}, which is not there: a flake sees only what was added to git (git add)";
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
          _file = "hosts.${name} in flake.nix";
          networking.hostName = name;
          nixpkgs.hostPlatform = system;
          nixpkgs.overlays = [ self.overlays.default ];
          hatrack.host.class = class;
        }
      ]
      ++ lib.optional (class == "pi-ai-hat") self.nixosModules.pi-image
      ++ map (located name) modules;
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
          checked name host
          // {
            inherit name;
            modules = modules ++ host.modules or [ ] ++ [ { hatrack.cluster.hosts = facts; } ];
          }
        )
      ) hosts;
      facts = lib.mapAttrs (
        _: host:
        host.config.hatrack.host
        // {
          inherit (host.config.hatrack.cluster) founder network;
          disks = map (disk: disk.device) (lib.attrValues host.config.disko.devices.disk);
        }
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
