# Every file that Cargo reads of the workspace is among the sources of the packages: without one of them nothing that builds the
# whole workspace builds. The answer is what is missing.
self:
let
  inherit (self.inputs.nixpkgs) lib;
  root = ../..;
  files = map (file: lib.removePrefix "${toString root}/" (toString file)) (
    lib.fileset.toList self.packages.x86_64-linux.hatrack-agent.fileset
  );
  isThere = file: lib.elem file files;

  targetsOf =
    member:
    let
      manifest = lib.importTOML (root + "/${member}/Cargo.toml");
      named = lib.concatMap (kind: manifest.${kind} or [ ]) [
        "bench"
        "bin"
        "example"
        "test"
      ];
      paths = lib.catAttrs "path" (named ++ lib.optional (manifest ? lib) manifest.lib);
      # What Cargo finds by its place, as far as it is in the repository.
      found = lib.filter (file: builtins.pathExists (root + "/${member}/${file}")) [
        "build.rs"
        "src/lib.rs"
        "src/main.rs"
      ];
    in
    map (file: "${member}/${file}") ([ "Cargo.toml" ] ++ paths ++ found);

  wanted = [
    "Cargo.lock"
    "Cargo.toml"
  ]
  ++ lib.concatMap targetsOf (lib.importTOML (root + "/Cargo.toml")).workspace.members;
in
map (file: "${file} is no source of the packages") (lib.filter (file: !isThere file) wanted)
