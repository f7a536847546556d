# GPUs: which driver, and who hands them out.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.hatrack.gpu;
  inherit (config.hatrack) k3s;
in
{
  _class = "nixos";

  options.hatrack.gpu = {
    driver = mkOption {
      type = types.nullOr (
        types.enum [
          "nvidia-open"
          "nvidia-closed"
          "amdgpu"
        ]
      );
      default = null;
      description = ''
        Driver of the GPUs. `nvidia-open` for Turing (RTX 20, T4) and newer, which is all that Blackwell works with;
        `nvidia-closed` for Maxwell, Pascal and Volta; `amdgpu` is part of the kernel.
      '';
    };

    isNvidia = mkOption {
      type = types.bool;
      default = cfg.driver == "nvidia-open" || cfg.driver == "nvidia-closed";
      defaultText = lib.literalMD "whether {option}`hatrack.gpu.driver` is one of NVIDIA's";
      readOnly = true;
      internal = true;
      description = "Whether the GPUs are NVIDIA's.";
    };

    allocator = mkOption {
      type = types.enum [
        "hats"
        "device-plugin"
      ];
      default = "hats";
      description = ''
        Who hands out the GPUs of this machine. With `device-plugin` pods ask for `nvidia.com/gpu`, and hats see the GPUs
        without placing anything on them. Never both.
      '';
    };

    devicePlugin = {
      enable = lib.mkEnableOption "NVIDIA's device plugin in the cluster; set it on the machines of the control plane";

      version = mkOption {
        type = types.str;
        default = "0.18.2";
        description = "Version of the Helm chart `nvidia-device-plugin`.";
      };
    };
  };

  config = lib.mkMerge [
    (lib.mkIf cfg.isNvidia {
      nixpkgs.config.allowUnfreePredicate =
        package:
        lib.elem (lib.getName package) [
          "nvidia-persistenced"
          "nvidia-settings"
          "nvidia-x11"
        ];

      # The name is historical: it selects the kernel modules on machines without a display as well.
      services.xserver.videoDrivers = [ "nvidia" ];
      hardware = {
        graphics.enable = true;
        nvidia = {
          open = cfg.driver == "nvidia-open";
          # The last branch that drives Maxwell, Pascal and Volta; later ones leave such a card alone.
          package = lib.mkIf (cfg.driver == "nvidia-closed") (
            lib.mkDefault config.boot.kernelPackages.nvidiaPackages.legacy_580
          );
          nvidiaPersistenced = true;
          nvidiaSettings = false;
        };
        nvidia-container-toolkit.enable = k3s.enable;
      };

      # k3s writes a containerd runtime for what it finds here; later releases keep the runtime in an output of its own.
      systemd.services.k3s.path = lib.mkIf k3s.enable (
        lib.unique [
          pkgs.nvidia-container-toolkit
          (lib.getOutput "tools" pkgs.nvidia-container-toolkit)
        ]
      );
      hatrack.k3s.labels."society.zeta.io/gpu-allocator" = cfg.allocator;
    })

    (lib.mkIf (cfg.devicePlugin.enable && k3s.enable && k3s.role == "server") {
      services.k3s.manifests.nvidia-device-plugin.content = [
        # The one by which devices of a CDI description are given. The class `nvidia`, which k3s makes itself, wants
        # nvidia-container-cli and libraries where no NixOS has them.
        {
          apiVersion = "node.k8s.io/v1";
          kind = "RuntimeClass";
          metadata.name = "nvidia-cdi";
          handler = "nvidia-cdi";
        }
        {
          apiVersion = "helm.cattle.io/v1";
          kind = "HelmChart";
          metadata = {
            name = "nvidia-device-plugin";
            namespace = "kube-system";
          };
          spec = {
            repo = "https://nvidia.github.io/k8s-device-plugin";
            chart = "nvidia-device-plugin";
            inherit (cfg.devicePlugin) version;
            targetNamespace = "kube-system";
            valuesContent = builtins.toJSON {
              runtimeClassName = "nvidia-cdi";
              # As the description that the container toolkit makes at boot names them.
              deviceIDStrategy = "index";
              # In place of the chart's, which wants labels of a discovery that does not run here.
              affinity = null;
              nodeSelector."society.zeta.io/gpu-allocator" = "device-plugin";
            };
          };
        }
      ];
    })
  ];
}
