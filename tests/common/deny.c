/* Runs a command for which the kernel refuses one system call, as a sandbox does; with ERRNO 0, the call does nothing
 * and succeeds.
 *
 *     deny NUMBER ERRNO MASK ARGUMENT VALUE COMMAND...
 *
 * Only where that argument (counted from 0; its low 32 bits), masked, has this value: with mask 0 and value 0, always.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc < 7) return 96;
    unsigned number = strtoul(argv[1], NULL, 10), error = strtoul(argv[2], NULL, 10);
    unsigned mask = strtoul(argv[3], NULL, 10), argument = strtoul(argv[4], NULL, 10), value = strtoul(argv[5], NULL, 10);
    struct sock_filter steps[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args) + 8 * argument),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, mask),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error & SECCOMP_RET_DATA)),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof steps / sizeof *steps, steps};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter)) {
        perror("deny");
        return 97;
    }
    execvp(argv[6], argv + 6);
    perror(argv[6]);
    return 98;
}
