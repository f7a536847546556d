# One program of the Cargo workspace. The vendored libusb needs nothing but the C compiler of the standard environment.
{
  autoAddDriverRunpath,
  installShellFiles,
  lib,
  rustPlatform,
  stdenv,

  # Package in the workspace; its binary has the same name.
  crate,
  description,
  # Whether the program writes its own manual pages and completions.
  selfDescribing ? false,
}:
let
  inherit (lib) fileset;

  # What no crate reads: a change to a host must not build the agent anew.
  unrelated = fileset.unions (
    map fileset.maybeMissing [
      ../CONTRIBUTING.md
      ../Makefile
      ../README.md
      ../disko
      ../flake.lock
      ../flake.nix
      ../hosts
      ../lib
      ../modules
      ../packages
      ../template
      ../treefmt.nix
      ../.github
    ]
    ++ [
      # Tests hold the code to these two.
      (fileset.difference ../docs (
        fileset.unions [
          ../docs/enrollment.md
          ../docs/transitions.md
        ]
      ))
      (fileset.difference ../tests/nix (
        fileset.union ../tests/nix/Cargo.toml (fileset.fileFilter (file: file.hasExt "rs") ../tests/nix)
      ))
    ]
  );
  sources = fileset.difference ../. unrelated;
in
rustPlatform.buildRustPackage {
  pname = crate;
  inherit ((lib.importTOML ../Cargo.toml).workspace.package) version;

  src = fileset.toSource {
    root = ../.;
    fileset = sources;
  };
  passthru.fileset = sources;
  cargoLock.lockFile = ../Cargo.lock;

  strictDeps = true;
  # NVML is opened at run time; NixOS keeps it with the drivers.
  nativeBuildInputs = [ autoAddDriverRunpath ] ++ lib.optional selfDescribing installShellFiles;

  buildType = "packaged";
  cargoBuildFlags = [
    "--package"
    crate
  ];

  # Tests that need an API server run in `make test`: a build has no network to fetch one with.
  checkType = "debug";
  cargoTestFlags = [
    "--package"
    crate
    "--bins"
  ];

  postInstall =
    lib.optionalString (selfDescribing && stdenv.buildPlatform.canExecute stdenv.hostPlatform)
      ''
        mkdir manual
        $out/bin/${crate} manual manual
        installManPage manual/*
        installShellCompletion --cmd ${crate} \
          --bash <($out/bin/${crate} completions bash) \
          --fish <($out/bin/${crate} completions fish) \
          --zsh <($out/bin/${crate} completions zsh)
      '';

  meta = {
    inherit description;
    homepage = "https://github.com/hatrack/hatrack";
    license = lib.licenses.asl20;
    mainProgram = crate;
    platforms = [
      "aarch64-linux"
      "x86_64-linux"
    ];
  };
}
