/* crashpoint COUNT N COMMAND...
 *
 * Runs COMMAND and kills it with SIGKILL when it is about to do the Nth change of names or flush to disk, counted
 * over all of its threads; with N = 0 never. Writes to the file COUNT how many it has seen, and the last one's name.
 *
 * `strace -e inject=...:when=N` counts per thread, and so never reaches most of the states that several threads
 * make together. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct {
    int nr;
    const char *name;
} points[] = {
#ifdef __NR_rename
    {__NR_rename, "rename"},
#endif
#ifdef __NR_link
    {__NR_link, "link"},
#endif
#ifdef __NR_unlink
    {__NR_unlink, "unlink"},
#endif
#ifdef __NR_mkdir
    {__NR_mkdir, "mkdir"},
#endif
#ifdef __NR_rmdir
    {__NR_rmdir, "rmdir"},
#endif
    {__NR_renameat, "renameat"},   {__NR_renameat2, "renameat2"}, {__NR_linkat, "linkat"},
    {__NR_unlinkat, "unlinkat"},   {__NR_mkdirat, "mkdirat"},     {__NR_fsync, "fsync"},
    {__NR_fdatasync, "fdatasync"}, {__NR_ftruncate, "ftruncate"},
};
#define POINTS (sizeof points / sizeof *points)

static void begin(char **command) {
    struct sock_filter filter[2 * POINTS + 2];
    unsigned at = 0;
    filter[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (unsigned i = 0; i < POINTS; i++) {
        filter[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, points[i].nr, 0, 1);
        filter[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE | i);
    }
    filter[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = at, .filter = filter};
    if (ptrace(PTRACE_TRACEME, 0, 0, 0) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) exit(125);
    raise(SIGSTOP);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) exit(125);
    execvp(command[0], command);
    exit(126);
}

int main(int argc, char **argv) {
    if (argc < 4) return 125;
    long wanted = atol(argv[2]), seen = 0;
    const char *last = "none";
    int status, code = 125;
    pid_t child = fork();
    if (child == 0) begin(argv + 3);
    if (child < 0 || waitpid(child, &status, 0) != child) return 125;
    long options = PTRACE_O_EXITKILL | PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
    if (ptrace(PTRACE_SETOPTIONS, child, 0, options)) return 125;
    ptrace(PTRACE_CONT, child, 0, 0);
    for (;;) {
        pid_t pid = waitpid(-1, &status, __WALL);
        if (pid < 0 && errno == EINTR) continue;
        if (pid < 0) break;
        if (!WIFSTOPPED(status)) {
            if (pid != child) continue;
            code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            break;
        }
        int event = status >> 16, signal = WSTOPSIG(status);
        if (event == PTRACE_EVENT_SECCOMP) {
            unsigned long point = 0;
            ptrace(PTRACE_GETEVENTMSG, pid, 0, &point);
            if (point < POINTS) last = points[point].name;
            if (++seen == wanted) {
                /* All threads at once, and this one before its call has begun. */
                kill(child, SIGKILL);
                continue;
            }
        }
        if (event || signal == SIGSTOP || signal == SIGTRAP) signal = 0;
        ptrace(PTRACE_CONT, pid, 0, signal);
    }
    FILE *count = fopen(argv[1], "w");
    if (count) {
        fprintf(count, "%ld %s\n", seen, last);
        fclose(count);
    }
    return code;
}
