# How every file of the repository is laid out; `nix fmt` applies it and `checks.formatting` compares.
{
  projectRootFile = "flake.nix";
  programs = {
    deadnix.enable = true;
    nixfmt.enable = true;
    rustfmt = {
      enable = true;
      edition = "2024";
    };
    shellcheck.enable = true;
  };
  settings.formatter.shellcheck.includes = [
    ".ci/run"
    "packages/*.sh"
    "tests/dependencies"
    "tests/nix/format"
    "tests/nix/init"
    "tests/nix/install"
    "tests/nix/run"
    "tests/nix/scripts"
    "tests/nix/verify"
    "tests/nix/write-texts"
    "tests/promises"
    "tests/setup"
  ];
}
