# Hosts and clusters from their facts.
inputs:
let
  inherit (inputs) self nixpkgs;
  inherit (nixpkgs) lib;

  classes = import ./classes.nix;
  # Of machines, and of what the flake has packages for.
  systems = [
    "aarch64-linux"
    "x86_64-linux"
  ];

  faultOf = import ./description.nix { inherit lib classes systems; };
  refuse = fault: value: if fault == null then value else throw fault;

  # A module of a host, which is blamed for what is wrong in it. What git does not know is not in the flake.
  located =
    place: module:
    if !lib.isPath module then
      lib.setDefaultModuleLocation place module
    else if builtins.pathExists module then
      module
    else
      throw "${place} names ${toString module}, which is not there: a flake sees only what was added to git (git add)";

  # The machine that is described at a place, with modules that it shares with others.
  described =
    place: name: shared: host:
    let
      inherit (refuse (faultOf place host) host) class system;
    in
    lib.nixosSystem {
      modules = [
        self.nixosModules.default
        {
          _file = place;
          networking.hostName = name;
          nixpkgs.hostPlatform = system;
          nixpkgs.overlays = [ self.overlays.default ];
          hatrack.host.class = class;
        }
      ]
      ++ lib.optional (class == "pi-ai-hat") self.nixosModules.pi-image
      ++ map (located place) (shared ++ host.modules or [ ]);
    };
in
rec {
  inherit systems;

  # One machine: { name, class, system, modules }. `class` is one of hatrack.host.class, `modules` say what only this machine has.
  mkHost =
    host:
    if host ? name then
      described "lib.mkHost of ${host.name}" host.name [ ] (removeAttrs host [ "name" ])
    else
      throw "lib.mkHost was given no name: it takes name, class, system and modules";

  # All machines of a cluster. Each of them knows the facts of the others, so that what contradicts is a build error.
  mkCluster =
    {
      hosts,
      modules ? [ ],
    }:
    let
      configurations = lib.mapAttrs (
        name:
        described "hosts.${name} in flake.nix" name (modules ++ [ { hatrack.cluster.hosts = facts; } ])
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
  disks = lib.mapAttrs (
    _: { layout, faultOf }: arguments: refuse (faultOf arguments) (layout arguments)
  ) (import ./disks.nix { inherit lib; });

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
