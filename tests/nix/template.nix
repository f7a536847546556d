# What stands between the template and a cluster: only what its reader is asked to fill in.
self:
let
  inherit (self.inputs.nixpkgs) lib;
  template = (import ../../template/flake.nix).outputs {
    self = template;
    hatrack = self;
  };

  expected = {
    control-1 = [
      "hatrack.base.sshKeys is empty"
      "disko.devices.disk.system.device of control-1 is not filled in"
    ];
    gpu-1 = [
      "hatrack.base.sshKeys is empty"
      "disko.devices.disk.system.device of gpu-1 is not filled in"
    ];
  };
  # Secrets and limits are made by `nix run .#init`; here they stand as they would without it.
  host =
    name:
    template.nixosConfigurations.${name}.extendModules {
      modules = [
        {
          hatrack.secrets.file = lib.mkForce null;
          hatrack.society.policy = lib.mkForce ../../k8s/hats/policy.yaml;
          hatrack.k3s.tokenFile = "/run/token";
        }
      ];
    };
  messages =
    name:
    map (assertion: assertion.message) (
      lib.filter (assertion: !assertion.assertion) (host name).config.assertions
    );
  # What `nix run .#init` asks of it, before there is a secret.
  reads = {
    control-1 = [
      "k3s-agent-token"
      "k3s-token"
    ];
    gpu-1 = [ "k3s-agent-token" ];
  };
  asked = lib.mapAttrs (_: host: host.config.hatrack.secrets.reads) template.nixosConfigurations;
  isOwn =
    name:
    lib.hasSuffix "/hosts/${name}/secrets.yaml" asked.${name}.file
    && asked.${name}.names == reads.${name};
in
lib.concatMap (
  name: lib.optional (!isOwn name) "${name} of the template reads ${builtins.toJSON asked.${name}}"
) (lib.attrNames reads)
++ lib.optional (!template.devShells.x86_64-linux ? default) "the template has no shell"
++ lib.concatLists (
  lib.mapAttrsToList (
    name: words:
    lib.optional (
      lib.length (messages name) != lib.length words
      || !lib.all (word: lib.any (lib.hasInfix word) (messages name)) words
    ) "${name} of the template is refused with ${builtins.toJSON (messages name)}"
  ) expected
)
