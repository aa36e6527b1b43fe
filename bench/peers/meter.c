/* Interpreter line of the CGI peer: runs PYTHON on the program beside the script, waits for it, and
 * appends the CPU microseconds of both to the file `metered` in the same folder.
 *
 * usage: #!/folder/meter PYTHON        in /folder/hello, which runs /folder/hello.cgi */

#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static uint64_t spent(int who)
{
    struct rusage used;

    if (getrusage(who, &used))
        return 0;
    return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * UINT64_C(1000000)
        + used.ru_utime.tv_usec + used.ru_stime.tv_usec;
}

int main(int argc, char **argv)
{
    char program[4096], file[4096];
    char *arguments[3];
    uint64_t total;
    pid_t child;
    int length = 0, status, out;

    if (argc != 3)
        return 2;
    for (int i = 0; argv[2][i]; i++)
        if (argv[2][i] == '/')
            length = i;
    snprintf(program, sizeof(program), "%s.cgi", argv[2]);
    snprintf(file, sizeof(file), "%.*s/metered", length, argv[2]);
    arguments[0] = argv[1];
    arguments[1] = program;
    arguments[2] = NULL;

    /* mod_cgid ignores the signal and so do we, after exec: there would be nothing to wait for. */
    signal(SIGCHLD, SIG_DFL);
    if (posix_spawn(&child, argv[1], NULL, NULL, arguments, environ)
        || waitpid(child, &status, 0) != child)
        return 1;
    total = spent(RUSAGE_SELF) + spent(RUSAGE_CHILDREN);
    out = open(file, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (out < 0 || write(out, &total, sizeof(total)) != sizeof(total))
        return 1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
