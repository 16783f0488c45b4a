/* crashpoint [-w] [-m PART] [-c SCRIPT] [-e ERRNO] COUNT N COMMAND...
 *
 * Runs COMMAND and kills it with SIGKILL when it is about to do the Nth change of names or flush to disk, counted
 * over all of its threads; with N = 0 never. Writes to the file COUNT how many it has seen, and the name of the Nth,
 * or of the last one.
 *
 * -w counts calls that create files and write to them, too; not those to standard output and error, nor those of up
 * to 8 bytes, by which threads wake each other.
 * -c runs a shell script at that point, while every thread stands still: the process goes on with nothing between
 * the script (which cuts the power of a disk, say) and its end. FILE names what the first argument is open on.
 * -e fails that call with this error instead, and lets the command go on; other threads do not stop for a script.
 * -m counts only calls whose first argument is open on a file with this in its path.
 * FILE, -e and -m are made for x86-64 alone.
 *
 * `strace -e inject=...:when=N` counts per thread, and so never reaches most of the states that several threads
 * make together. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
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
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum sort { NAME, CREATE, WRITE };

static const struct {
    int nr;
    const char *name;
    enum sort sort;
} points[] = {
#ifdef __NR_rename
    {__NR_rename, "rename", NAME},
#endif
#ifdef __NR_link
    {__NR_link, "link", NAME},
#endif
#ifdef __NR_unlink
    {__NR_unlink, "unlink", NAME},
#endif
#ifdef __NR_mkdir
    {__NR_mkdir, "mkdir", NAME},
#endif
#ifdef __NR_rmdir
    {__NR_rmdir, "rmdir", NAME},
#endif
    {__NR_renameat, "renameat", NAME},
    {__NR_renameat2, "renameat2", NAME},
    {__NR_linkat, "linkat", NAME},
    {__NR_unlinkat, "unlinkat", NAME},
    {__NR_mkdirat, "mkdirat", NAME},
    {__NR_fsync, "fsync", NAME},
    {__NR_fdatasync, "fdatasync", NAME},
    {__NR_ftruncate, "ftruncate", NAME},
    {__NR_openat, "create", CREATE},
    {__NR_write, "write", WRITE},
    {__NR_pwrite64, "pwrite64", WRITE},
    {__NR_writev, "writev", WRITE},
    {__NR_pwritev, "pwritev", WRITE},
    {__NR_copy_file_range, "copy_file_range", WRITE},
};
#define POINTS (sizeof points / sizeof *points)
#define THREADS_MAX 256

#define LOAD(field) (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define UNLESS(test, value, skip) (struct sock_filter)BPF_JUMP(BPF_JMP | (test) | BPF_K, value, 0, skip)
#define WHEN(test, value, skip) (struct sock_filter)BPF_JUMP(BPF_JMP | (test) | BPF_K, value, skip, 0)
#define ANSWER(how) (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, how)

/* Loads the low half of an argument, as little endian machines have it first. */
static unsigned fill(struct sock_filter *filter, int writes) {
    unsigned at = 0;
    filter[at++] = LOAD(nr);
    for (unsigned i = 0; i < POINTS; i++) {
        if (points[i].sort != NAME && !writes) continue;
        unsigned jump = at++, sized = points[i].nr == __NR_write || points[i].nr == __NR_pwrite64;
        if (points[i].sort == CREATE) {
            filter[at++] = LOAD(args[2]);
            filter[at++] = WHEN(BPF_JSET, O_CREAT, 1);
            filter[at++] = ANSWER(SECCOMP_RET_ALLOW);
        } else if (points[i].sort == WRITE) {
            filter[at++] = LOAD(args[0]);
            filter[at++] = WHEN(BPF_JGT, 2, 1);
            filter[at++] = ANSWER(SECCOMP_RET_ALLOW);
            if (sized) {
                filter[at++] = LOAD(args[2]);
                filter[at++] = WHEN(BPF_JGT, 8, 1);
                filter[at++] = ANSWER(SECCOMP_RET_ALLOW);
            }
        }
        filter[at++] = ANSWER(SECCOMP_RET_TRACE | i);
        filter[jump] = UNLESS(BPF_JEQ, points[i].nr, at - jump - 1);
    }
    filter[at++] = ANSWER(SECCOMP_RET_ALLOW);
    return at;
}

static void begin(char **command, int writes) {
    struct sock_filter filter[8 * POINTS + 2];
    struct sock_fprog program = {.len = fill(filter, writes), .filter = filter};
    if (ptrace(PTRACE_TRACEME, 0, 0, 0) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) exit(125);
    raise(SIGSTOP);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) exit(125);
    execvp(command[0], command);
    exit(126);
}

/* Tells every thread of the process to stop, and waits until each one does. `here` stands already. */
static void freeze(pid_t process, pid_t here) {
    pid_t still[THREADS_MAX];
    unsigned count = 0;
    still[count++] = here;
    for (;;) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/task", process);
        DIR *tasks = opendir(path);
        if (!tasks) return;
        unsigned moving = 0;
        for (struct dirent *task; (task = readdir(tasks));) {
            pid_t tid = atoi(task->d_name);
            unsigned i = 0;
            while (i < count && still[i] != tid) i++;
            if (tid == 0 || i < count) continue;
            moving++;
            syscall(SYS_tgkill, process, tid, SIGSTOP);
        }
        closedir(tasks);
        if (!moving) return;
        int status;
        pid_t pid = waitpid(-1, &status, __WALL);
        if (pid > 0 && WIFSTOPPED(status) && count < THREADS_MAX) still[count++] = pid;
    }
}

/* The path of which the first argument of the call is an open file, or nothing. */
static const char *file_of(pid_t thread) {
    static char path[4096];
    path[0] = 0;
#ifdef __x86_64__
    struct user_regs_struct registers;
    char link[64];
    ptrace(PTRACE_GETREGS, thread, 0, &registers);
    snprintf(link, sizeof link, "/proc/%d/fd/%llu", thread, registers.rdi);
    ssize_t len = readlink(link, path, sizeof path - 1);
    path[len < 0 ? 0 : len] = 0;
#else
    (void)thread;
#endif
    return path;
}

/* Skips the call that this thread is about to do. */
static void fail(pid_t thread, int error) {
#ifdef __x86_64__
    struct user_regs_struct registers;
    ptrace(PTRACE_GETREGS, thread, 0, &registers);
    registers.orig_rax = -1;
    registers.rax = -error;
    ptrace(PTRACE_SETREGS, thread, 0, &registers);
#else
    (void)thread, (void)error;
#endif
}

static void run(const char *script) {
    if (script && system(script)) fprintf(stderr, "crashpoint: %s failed\n", script);
}

int main(int argc, char **argv) {
    int writes = 0, error = 0, option;
    const char *script = NULL, *part = NULL, *last = "none";
    while ((option = getopt(argc, argv, "+wm:c:e:")) != -1) {
        if (option == 'w') writes = 1;
        else if (option == 'c') script = optarg;
        else if (option == 'm') part = optarg;
        else if (option == 'e') error = atoi(optarg);
        else return 125;
    }
    argv += optind;
    if (argc - optind < 3) return 125;
    long wanted = atol(argv[1]), seen = 0;
    int status, code = 125;
    pid_t child = fork();
    if (child == 0) begin(argv + 2, writes);
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
        if (event == PTRACE_EVENT_SECCOMP && (!part || strstr(file_of(pid), part))) {
            unsigned long point = 0;
            ptrace(PTRACE_GETEVENTMSG, pid, 0, &point);
            if (point < POINTS && (seen < wanted || !wanted)) last = points[point].name;
            if (++seen == wanted) {
                setenv("FILE", file_of(pid), 1);
                if (error) {
                    run(script);
                    fail(pid, error);
                } else {
                    /* All threads at once, and this one before its call has begun. */
                    if (script) freeze(child, pid);
                    run(script);
                    kill(child, SIGKILL);
                    continue;
                }
            }
        }
        if (event || signal == SIGSTOP || signal == SIGTRAP) signal = 0;
        ptrace(PTRACE_CONT, pid, 0, signal);
    }
    FILE *count = fopen(argv[0], "w");
    if (count) {
        fprintf(count, "%ld %s\n", seen, last);
        fclose(count);
    }
    return code;
}
