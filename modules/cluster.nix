# What a machine is, what it knows of the others, and what may not contradict.
{
  config,
  lib,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.hatrack;
  ipAddress = import ../lib/ip-address.nix { inherit lib; };

  peers = lib.filterAttrs (name: _: name != cfg.host.name) cfg.cluster.hosts;
  namesSharing =
    fact:
    lib.optionals (cfg.host.${fact} != null) (
      lib.attrNames (
        lib.filterAttrs (
          _: peer: peer.${fact} != null && lib.toLower peer.${fact} == lib.toLower cfg.host.${fact}
        ) peers
      )
    );
  unique = fact: {
    assertion = namesSharing fact == [ ];
    message = "hatrack.host.${fact} is ${toString cfg.host.${fact}} on ${cfg.host.name} and on ${toString (namesSharing fact)}: give each host its own.";
  };

  # As the API checks names of ClusterNodes: a DNS label that fits a certificate's common name.
  isName =
    name: builtins.match "[a-z0-9]([-a-z0-9]*[a-z0-9])?" name != null && lib.stringLength name <= 51;

  # What pods of the machine speak by; a machine without pods takes any.
  network =
    if !cfg.k3s.enable then
      null
    else if cfg.cilium.enable then
      "Cilium with pods in ${cfg.cilium.podCidr}"
    else
      "flannel";
  otherNetworks = lib.filterAttrs (
    _: peer: network != null && peer.network or null != null && peer.network != network
  ) peers;

  otherFounders = lib.filterAttrs (
    _: peer: peer.founder != null && peer.founder != cfg.cluster.founder
  ) peers;
in
{
  _class = "nixos";

  options.hatrack = {
    host = {
      name = mkOption {
        type = types.str;
        default = config.networking.hostName;
        defaultText = lib.literalExpression "config.networking.hostName";
        readOnly = true;
        description = "Name of the machine and of its ClusterNode.";
      };

      class = mkOption {
        type = types.enum (import ../lib/classes.nix);
        description = "What the machine is for. It decides which services run on it.";
      };

      profile = mkOption {
        type = types.nullOr (
          types.enum [
            "cloud-hub"
            "community"
            "home-business"
            "edge"
            "leaf"
          ]
        );
        default = null;
        description = "How much the machine and its surroundings can carry.";
      };

      address = mkOption {
        type = types.nullOr ipAddress;
        default = null;
        example = "10.0.0.7";
        description = "IP address under which the other machines reach this one; it does not change.";
      };

      hardwareId = mkOption {
        type = types.nullOr (types.strMatching "[0-9a-zA-Z][-.:_0-9a-zA-Z]*");
        default = null;
        example = "4c4c4544-0042-3510-8051-b4c04f4d3132";
        description = ''
          What `hatrack discover -o json` gives as the machine's id: its SMBIOS UUID in lower case, or the serial number
          of its board. Without it the first machine that registers under the name is pinned.
        '';
      };

      install = mkOption {
        type = types.enum [
          "nixos-anywhere"
          "sd-image"
        ];
        default = "nixos-anywhere";
        description = "How the machine is installed: over ssh, or from a card that is written elsewhere.";
      };
    };

    cluster = {
      founder = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "control-1";
        description = ''
          Name of the one machine that founds the Kubernetes cluster. Set it once, for all machines; everybody else joins
          that machine.
        '';
      };

      network = mkOption {
        type = types.nullOr types.str;
        default = network;
        readOnly = true;
        internal = true;
        description = "The network of this machine's pods, in words.";
      };

      hosts = mkOption {
        type = types.attrsOf (types.attrsOf types.anything);
        default = { };
        internal = true;
        description = "Facts of all machines of the cluster by name; `lib.mkCluster` fills them in.";
      };
    };
  };

  config.assertions = [
    (unique "address")
    (unique "hardwareId")
    {
      assertion =
        lib.count (host: host.name or null == cfg.host.name) (lib.attrValues cfg.cluster.hosts) <= 1;
      message = "networking.hostName ${cfg.host.name} is the name of another host of the cluster: give each host its own.";
    }
    {
      assertion = isName cfg.host.name;
      message = "networking.hostName `${cfg.host.name}` cannot be the name of a ClusterNode: use at most 51 lower-case letters, digits and dashes.";
    }
    {
      assertion =
        cfg.cluster.founder == null
        || cfg.cluster.hosts == { }
        || cfg.cluster.hosts ? ${cfg.cluster.founder};
      message = "hatrack.cluster.founder is ${toString cfg.cluster.founder}, which is no host of this cluster: it has ${lib.concatStringsSep ", " (lib.attrNames cfg.cluster.hosts)}.";
    }
    {
      assertion = otherFounders == { };
      message = "hatrack.cluster.founder is ${toString cfg.cluster.founder} here, but ${
        lib.concatStringsSep ", " (
          lib.mapAttrsToList (name: peer: "${peer.founder} on ${name}") otherFounders
        )
      }: two founders make two clusters, so set it once for all hosts.";
    }
    {
      assertion = otherNetworks == { };
      message = "the network of ${cfg.host.name} is ${toString network}, but ${
        lib.concatStringsSep ", " (
          lib.mapAttrsToList (name: peer: "${peer.network} on ${name}") otherNetworks
        )
      }: pods would not reach each other, so set hatrack.cilium once for all hosts.";
    }
  ];
}
