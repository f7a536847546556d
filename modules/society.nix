# What hatrack needs in the cluster: kinds, admission policies, rights and the first hats. k3s applies them where no Argo CD does.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.hatrack.society;
  serves = config.hatrack.k3s.enable && config.hatrack.k3s.role == "server";

  # k3s applies files by their names. A policy bites only if the kind that it looks at, and its parameter, are there before.
  manifest = order: source: {
    name = "hatrack-${toString order}-${lib.removeSuffix ".yaml" (baseNameOf source)}";
    value = { inherit source; };
  };
  policy = manifest 3 cfg.policy // {
    value.source = import ../lib/checked-policy.nix {
      inherit lib pkgs;
    } config.networking.hostName cfg.policy;
  };
  folder =
    order: path: leave:
    map (file: manifest order (path + "/${file}")) (
      lib.subtractLists ([ "kustomization.yaml" ] ++ leave) (
        lib.attrNames (lib.filterAttrs (_: type: type == "regular") (builtins.readDir path))
      )
    );
in
{
  _class = "nixos";

  options.hatrack.society = {
    enable =
      lib.mkEnableOption "what hatrack needs in the cluster, applied by k3s on the machines of the control plane"
      // {
        default = !config.hatrack.argocd.enable;
        defaultText = lib.literalExpression "!config.hatrack.argocd.enable";
      };

    policy = lib.mkOption {
      type = lib.types.path;
      default = ../k8s/hats/policy.yaml;
      defaultText = lib.literalMD "`k8s/hats/policy.yaml` of hatrack";
      example = lib.literalExpression "./k8s/hats/policy.yaml";
      description = "Manifest of the HatPolicy: the limits of this cluster, and who its people are.";
    };
  };

  config = lib.mkIf (cfg.enable && serves) {
    assertions = [
      {
        assertion = builtins.pathExists cfg.policy;
        message = "hatrack.society.policy of ${config.networking.hostName}, ${toString cfg.policy}, is not there: `nix run .#init` makes it, and `git add` it then, since a flake sees nothing else.";
      }
    ];

    services.k3s.manifests = lib.listToAttrs (
      [ (manifest 1 ../k8s/namespace.yaml) ]
      ++ folder 2 ../k8s/crds [ ]
      ++ [ policy ]
      ++ folder 4 ../k8s/policies [ ]
      # A template, filled in for each machine by the operator.
      ++ folder 5 ../k8s/rbac [ "node.yaml" ]
      ++ folder 6 ../k8s/hats [ "policy.yaml" ]
    );
  };
}
