# Builds with these flags contain no paths of this machine. Not executed, but read by the scripts that build releases or
# tests: with the same flags for both, the tests of what is handed out need not compile everything a second time.

# Appends them to what the environment has given; flags in Cargo's configuration files do not count then. Reading this again
# changes nothing.
leave_out_paths() {
    local path flag flags words sysroot separator=$'\x1f'
    sysroot=$("${RUSTC:-rustc}" --print sysroot)
    # Where source files are on this machine, and what the program says instead (in the message of a panic). Of several that
    # fit, the last one counts.
    local paths=(
        "$PWD=."
        "${CARGO_TARGET_DIR:-$PWD/target}=target"
        "${CARGO_HOME:-$HOME/.cargo}=/cargo"
        "$sysroot=/rust"
    )
    # A path may contain blanks, so the flags are passed in Cargo's own encoding. They replace those of RUSTFLAGS.
    flags=${CARGO_ENCODED_RUSTFLAGS-}
    read -ra words <<<"${RUSTFLAGS-}"
    for flag in "${words[@]}"; do flags+=${flags:+$separator}$flag; done
    for path in "${paths[@]}"; do
        flag=--remap-path-prefix=$path
        [[ $separator$flags$separator == *"$separator$flag$separator"* ]] || flags+=${flags:+$separator}$flag
    done
    export CARGO_ENCODED_RUSTFLAGS=$flags
    unset RUSTFLAGS

    # C code, which only the feature tls brings along. (Compilers for C split these words at blanks.)
    flags=" ${CFLAGS:+$CFLAGS }"
    [[ $flags == *" -fstack-protector-strong "* ]] || flags+="-fstack-protector-strong "
    for path in "${paths[@]}"; do
        flag=-ffile-prefix-map=$path
        [[ $path == *[[:blank:]]* || $flags == *" $flag "* ]] || flags+="$flag "
    done
    flags=${flags# }
    export CFLAGS=${flags% }
}
leave_out_paths
