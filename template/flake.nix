{
  description = "My cluster";

  inputs.hatrack.url = "github:hatrack/hatrack";

  outputs =
    { self, hatrack }:
    let
      inherit (hatrack.inputs.nixpkgs) lib;
      inherit (hatrack.lib) disks systems;
    in
    {
      nixosConfigurations = hatrack.lib.mkCluster {
        modules = [ ./hosts/cluster.nix ];

        # One entry for each machine. What is only true of one of them goes into its folder below hosts/.
        hosts = {
          control-1 = {
            class = "control-plane";
            system = "x86_64-linux";
            modules = [
              ./hosts/control-1
              (disks.single-disk { device = "/dev/disk/by-id/REPLACE-ME"; })
            ];
          };

          gpu-1 = {
            class = "gpu-worker";
            system = "x86_64-linux";
            modules = [
              ./hosts/gpu-1
              (disks.single-disk { device = "/dev/disk/by-id/REPLACE-ME"; })
            ];
          };
        };
      };

      # `nix build .#nodes`: the ClusterNode of each host, for k8s/nodes.
      packages = lib.mapAttrs (_: pkgs: {
        nodes = hatrack.lib.nodeManifests pkgs self.nixosConfigurations;
      }) (lib.getAttrs systems hatrack.inputs.nixpkgs.legacyPackages);

      # `nix run .#init` and `nix run .#install`.
      inherit (hatrack) apps;

      # `nix develop`: hatrack, kubectl, sops and nixos-rebuild.
      devShells = lib.mapAttrs (_: shells: { default = shells.cluster; }) hatrack.devShells;

      # `nix flake check` builds every host; with --no-build it says without that whether they fit together.
      checks = lib.genAttrs systems (
        system:
        lib.mapAttrs (_: host: host.config.system.build.toplevel) (
          lib.filterAttrs (_: host: host.pkgs.stdenv.hostPlatform.system == system) self.nixosConfigurations
        )
      );
    };
}
