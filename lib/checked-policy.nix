# The limits of a cluster, as it takes them: a key that it does not know it would drop without a word. What is wrong is a build
# error, with the line; where the program cannot run at build, it is said by `nix run .#init`.
{ lib, pkgs }:
host: file:
if pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform then
  pkgs.runCommand "policy.yaml" { nativeBuildInputs = [ pkgs.hatrack ]; } ''
    install -D -m 644 ${file} k8s/hatpolicies/default.yaml
    hatrack hats --cluster k8s >/dev/null || {
      echo "hatrack.society.policy of ${host} is refused for what is said above: correct that file" >&2
      exit 1
    }
    cp ${file} $out
  ''
else
  file
