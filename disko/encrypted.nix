# Content under LUKS, opened by the TPM of the machine; without its TPM the disk asks for the passphrase.
#
# nixos-anywhere brings the passphrase to /tmp/disk.key (--disk-encryption-keys). Register 7 measures Secure Boot: a disk
# that was taken out, or a machine whose Secure Boot was changed, does not open by itself.
{
  # Of the opened device, below /dev/mapper.
  name,
  content,
  # Whether the first stage of the boot opens it; what comes without is opened by /etc/crypttab.
  early ? true,
  # Further options of its line in the crypttab of the first stage.
  options ? [ ],
}:
{
  type = "luks";
  inherit name content;
  passwordFile = "/tmp/disk.key";
  initrdUnlock = early;
  settings = {
    allowDiscards = true;
    crypttabExtraOpts = [ "tpm2-device=auto" ] ++ options;
  };
  # disko takes the passphrase without the newline at its end, so the same is enrolled. Its scripts print what they do.
  postCreateHook = ''
    if [ -e /dev/tpmrm0 ]; then
      (
        set +x
        PASSWORD=$(cat /tmp/disk.key) systemd-cryptenroll --tpm2-device=auto --tpm2-pcrs=7 "$device"
      )
    fi
  '';
}
