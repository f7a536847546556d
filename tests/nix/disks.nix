# disko's own test of each layout: made on empty disks, installed to, and booted from. Then what only that layout promises: a mirror
# boots from either half, a dead disk for volumes stops no boot, and what is encrypted is opened by the TPM of its machine.
#
# Disks for volumes lie beside a mirror: each test takes 2 GB of memory to evaluate.
{ inputs, pkgs }:
let
  inherit (pkgs) lib;
  layouts = import ./layouts.nix { inherit (inputs.self.lib) disks; };
  passphrase = "secretsecret";
  rootIsOpened = "findmnt --noheadings --output SOURCE / | grep --line-regexp /dev/mapper/system";
  volumes = "mountpoint /var/lib/longhorn && mountpoint /var/lib/longhorn-2";

  # Disks are numbered in the order of their names: data-1, data-2, system-1, system-2.
  cases = {
    single-disk = { };

    single-disk-encrypted = {
      # Without its TPM.
      atBoot = typing "system";
      afterwards = ''
        machine.succeed("${rootIsOpened}")
      ''
      + restart
      + opensByItself [ 0 ] rootIsOpened;
    };

    zfs-mirror = {
      beside = layouts.data-disks;
      afterwards = ''
        machine.wait_until_succeeds("${volumes}", timeout=120)
      ''
      + restart
      + eachHalf "";
    };

    zfs-mirror-encrypted = {
      beside = layouts.data-disks-encrypted;
      # One answer is for both halves.
      atBoot = typing "system-";
      afterwards =
        restart
        + opensByItself (lib.range 0 3) "zpool status system | grep ONLINE && ${volumes}"
        + eachHalf ", tpm=True";
    };
  };

  typing = disk: ''
    machine.wait_for_console_text("enter passphrase for disk ${disk}")
    machine.send_console("${passphrase}\n")
  '';

  # The installed disks in another machine, with the TPM of the installer or with none.
  restart = ''
    import subprocess

    machine.shutdown()
    installer = driver.machines[0]


    def again(name, disks, tpm=False):
        command = [
            "${pkgs.qemu_test}/bin/qemu-system-x86_64 -machine accel=kvm:tcg -cpu max -m 1024",
            "-drive if=pflash,format=raw,unit=0,readonly=on,file=${pkgs.OVMF.firmware}",
            "-drive if=pflash,format=raw,unit=1,readonly=on,file=${pkgs.OVMF.variables}",
            "-virtfs local,path=/nix/store,security_model=none,mount_tag=nix-store",
        ]
        for disk in disks:
            command += [
                f"-drive file={installer.state_dir}/empty{disk}.qcow2,id=disk{disk},if=none,werror=report",
                f"-device virtio-blk-pci,drive=disk{disk}",
            ]
        if tpm:
            state = next(installer.state_dir.glob("*-swtpm"))
            control = state / "socket"
            subprocess.run(
                [
                    "${lib.getExe pkgs.swtpm}", "socket", "--tpm2", "--daemon",
                    "--tpmstate", f"dir={state}", "--ctrl", f"type=unixio,path={control},terminate",
                ],
                check=True,
            )
            command += [f"-chardev socket,id=tpm,path={control} -tpmdev emulator,id=tpm,chardev=tpm -device tpm-tis,tpmdev=tpm"]
        other = create_machine(start_command=" ".join(command), name=name)
        driver.machines.append(other)
        other.start()
        return other

  '';

  opensByItself = disks: check: ''
    with subtest("the TPM opens what is encrypted"):
        opened = again("opened", ${builtins.toJSON disks}, tpm=True)
        opened.wait_for_unit("multi-user.target")
        opened.wait_until_succeeds("${check}", timeout=120)
        opened.shutdown()

  '';

  # With one of the disks for volumes dead as well.
  eachHalf = arguments: ''
    for half in [2, 3]:
        with subtest(f"disk {half} boots alone"):
            alone = again(f"alone{half}", [1, half]${arguments})
            alone.wait_for_unit("multi-user.target")
            alone.succeed("zpool status system | grep DEGRADED")
            alone.fail("mountpoint /boot && mountpoint /boot-mirror")
            alone.fail("mountpoint /var/lib/longhorn")
            alone.wait_until_succeeds("mountpoint /var/lib/longhorn-2", timeout=120)
            alone.shutdown()
  '';

  test =
    name:
    {
      beside ? { },
      atBoot ? "",
      afterwards ? "",
    }:
    let
      encrypted = lib.hasSuffix "-encrypted" name;
      host = inputs.self.lib.mkHost {
        inherit name;
        # Of all classes the one that starts no Kubernetes.
        class = "phone-orchestrator";
        inherit (pkgs.stdenv.hostPlatform) system;
        modules = [
          layouts.${name}
          beside
          {
            hatrack = {
              base.enable = false;
              adb.keyFile = "/run/adb-key";
              disks.requireIds = false;
            };
            networking.hostId = "7d1f93c4";
            system.stateVersion = "26.05";
          }
        ];
      };
    in
    inputs.disko.lib.testLib.makeDiskoTest {
      inherit (host) extendModules;
      inherit name pkgs;
      disko-config = removeAttrs host.config [ "_module" ];
      testMode = "direct";
      bootCommands = atBoot;
      extraTestScript = afterwards;
      extraInstallerConfig = lib.mkIf encrypted {
        systemd.tmpfiles.rules = [ "f+ /tmp/disk.key 0600 root root - ${passphrase}" ];
        # The same firmware as that of the installed system: what it measures is what the TPM asks for.
        virtualisation = {
          tpm.enable = true;
          useEFIBoot = true;
        };
      };
    };
in
lib.mapAttrs' (name: case: lib.nameValuePair "disks-${name}" (test name case)) cases
