print("ovx")
