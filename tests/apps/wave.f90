! SPDX-License-Identifier: MIT
! A wave on a string; every tenth state goes to an unformatted sequential file, a checksum of it to another of direct
! access: wave STEPS. A line for each.
program wave
    implicit none
    integer, parameter :: n = 20000, wide = selected_int_kind(15)
    real(8) :: u(n), v(n), a(n)
    integer :: steps, i, k
    integer(wide) :: total
    character(20) :: text

    call get_command_argument(1, text)
    read (text, *) steps
    open (10, file='data/wave.states', form='unformatted', access='sequential', status='replace')
    open (11, file='data/wave.sums', form='unformatted', access='direct', recl=8, status='replace')
    u = [(exp(max(-((i - n / 3) / 200.0d0)**2, -600.0d0)), i=1, n)]
    v = 0
    a = 0
    total = 0
    do k = 1, steps * 10
        do i = 2, n - 1
            a(i) = u(i - 1) - 2 * u(i) + u(i + 1)
        end do
        v = v + 0.25d0 * a
        u = u + v
        if (mod(k, 10) == 0) then
            total = mod(total * 31 + int(sum(abs(u)) * 1d6, wide), 1000000007_wide)
            if (mod(k, 200) == 0) write (10) k, u
            write (11, rec=k / 10) total
            print '(i8, ": ", i12, f16.10)', k, total, u(n / 2)
            flush (6)
        end if
    end do
    close (10)
    close (11)
end program
