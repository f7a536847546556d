# Argo CD: k3s installs it, and from then on it applies `k8s/` of a repository.
{
  config,
  lib,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.hatrack.argocd;
  # Without these, Argo CD calls a held request as healthy as a granted one.
  health =
    lib.mapAttrs'
      (kind: file: {
        name = "resource.customizations.health.society.zeta.io_${kind}";
        value = builtins.readFile file;
      })
      {
        ClusterNode = ../k8s/apps/health/clusternode.lua;
        Hat = ../k8s/apps/health/hat.lua;
        HatBinding = ../k8s/apps/health/hatbinding.lua;
      };
  serves = config.hatrack.k3s.enable && config.hatrack.k3s.role == "server";
in
{
  _class = "nixos";

  options.hatrack.argocd = {
    enable = lib.mkEnableOption "Argo CD, applied by the machines of the control plane";

    version = mkOption {
      type = types.str;
      default = "8.6.3";
      description = "Version of the Helm chart `argo-cd`.";
    };

    repository = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "https://github.com/example/cluster";
      description = "Git repository whose manifests Argo CD applies.";
    };

    revision = mkOption {
      type = types.str;
      default = "HEAD";
      description = "Branch, tag or commit of the repository.";
    };

    path = mkOption {
      type = types.str;
      default = "k8s";
      description = "Folder of the repository.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.repository != null;
        message = "hatrack.argocd.repository is not set: Argo CD would have nothing to apply.";
      }
    ];

    services.k3s.manifests = lib.mkIf serves {
      argocd.content = {
        apiVersion = "helm.cattle.io/v1";
        kind = "HelmChart";
        metadata = {
          name = "argocd";
          namespace = "kube-system";
        };
        spec = {
          repo = "https://argoproj.github.io/argo-helm";
          chart = "argo-cd";
          inherit (cfg) version;
          targetNamespace = "argocd";
          createNamespace = true;
          valuesContent = builtins.toJSON { configs.cm = health; };
        };
      };

      # As k8s/apps/hatrack.yaml, with the repository of this cluster. k3s applies it again until Argo CD has brought the kind.
      argocd-root.content = {
        apiVersion = "argoproj.io/v1alpha1";
        kind = "Application";
        metadata = {
          name = "hatrack";
          namespace = "argocd";
        };
        spec = {
          project = "default";
          source = {
            repoURL = cfg.repository;
            targetRevision = cfg.revision;
            inherit (cfg) path;
          };
          destination = {
            server = "https://kubernetes.default.svc";
            namespace = "society-system";
          };
          syncPolicy = {
            automated.selfHeal = true;
            # A manifest taken out by mistake must not take the cluster's nodes with it.
            automated.prune = false;
            syncOptions = [
              "ServerSideApply=true"
              "RespectIgnoreDifferences=true"
            ];
          };
          ignoreDifferences = [
            {
              group = "society.zeta.io";
              kind = "HatBinding";
              jqPathExpressions = [
                ".spec.cosignedBy"
                ".spec.verdicts"
              ];
            }
          ];
        };
      };
    };
  };
}
