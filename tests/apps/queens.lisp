;;; SPDX-License-Identifier: MIT
;;; Queens on boards, and a hash table that is thrown away again and again, so that garbage is collected:
;;; sbcl --script queens.lisp ROUNDS. A line for each round.
(defun queens (n row columns left right)
  (declare (fixnum n row columns left right))
  (if (= row n)
      1
      (let ((count 0))
        (dotimes (column n count)
          (let ((a (ash 1 column)) (b (ash 1 (+ row column))) (c (ash 1 (+ (- row column) n))))
            (unless (or (logtest a columns) (logtest b left) (logtest c right))
              (incf count (queens n (1+ row) (logior a columns) (logior b left) (logior c right)))))))))

(let ((rounds (parse-integer (second sb-ext:*posix-argv*))) (total 0))
  (loop for round from 1 to rounds
        do (let ((table (make-hash-table :test 'equal)))
             (dotimes (i 20000)
               (setf (gethash (format nil "~a-~a" round (mod (* i 7919) 5003)) table) i))
             (setf total (mod (+ (* total 31) (queens 7 0 0 0 0) (gethash (format nil "~a-17" round) table))
                              1000003))
             (format t "~a: ~a ~a~%" round (hash-table-count table) total)
             (finish-output))))
